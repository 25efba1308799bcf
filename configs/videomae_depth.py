"""VideoMAE H: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/videomae_depth.py

The paper, Table 6: absolute relative error 0.18, best of 10 0.092,
perception 0.108. Table 2: Fréchet distance 643.82.
"""

from forecasting import config

get_config = config.paper_experiment("videomae", "depth")
