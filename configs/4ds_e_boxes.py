"""4DS-e: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/4ds_e_boxes.py

The paper, Table 6: mean IoU 0.56, best of 10 0.66,
perception 0.77. Table 2: Fréchet distance 1.87.
"""

from forecasting import config

get_config = config.paper_experiment("4ds_e", "boxes")
