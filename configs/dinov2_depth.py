"""DINOv2 L/14: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/dinov2_depth.py

The paper, Table 6: absolute relative error 0.15, best of 10 0.077,
perception 0.096. Table 2: Fréchet distance 626.75.
"""

from forecasting import config

get_config = config.paper_experiment("dinov2", "depth")
