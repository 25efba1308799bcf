"""VideoMAE H: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/videomae_boxes.py

The paper, Table 6: mean IoU 0.56, best of 10 0.62,
perception 0.74. Table 2: Fréchet distance 2.62.
"""

from forecasting import config

get_config = config.paper_experiment("videomae", "boxes")
