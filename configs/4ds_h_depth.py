"""4DS-h: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/4ds_h_depth.py

The paper, Table 6: absolute relative error 0.21, best of 10 0.11,
perception 0.12. Table 2: Fréchet distance 616.23.
"""

from forecasting import config

get_config = config.paper_experiment("4ds_h", "depth")
