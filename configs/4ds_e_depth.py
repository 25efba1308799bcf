"""4DS-e: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/4ds_e_depth.py

The paper, Table 6: absolute relative error 0.18, best of 10 0.096,
perception 0.091. Table 2: Fréchet distance 599.43.
"""

from forecasting import config

get_config = config.paper_experiment("4ds_e", "depth")
