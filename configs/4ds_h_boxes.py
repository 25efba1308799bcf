"""4DS-h: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/4ds_h_boxes.py

The paper, Table 6: mean IoU 0.43, best of 10 0.63,
perception 0.74. Table 2: Fréchet distance 3.24.
"""

from forecasting import config

get_config = config.paper_experiment("4ds_h", "boxes")
