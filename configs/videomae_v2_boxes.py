"""VideoMAEv2 g: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/videomae_v2_boxes.py

The paper, Table 6: mean IoU 0.56, best of 10 0.64,
perception 0.72. Table 2: Fréchet distance 2.92.
"""

from forecasting import config

get_config = config.paper_experiment("videomae_v2", "boxes")
