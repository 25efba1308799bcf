"""VideoMAEv2 g: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/videomae_v2_depth.py

The paper, Table 6: absolute relative error 0.2, best of 10 0.093,
perception 0.113. Table 2: Fréchet distance 652.53.
"""

from forecasting import config

get_config = config.paper_experiment("videomae_v2", "depth")
