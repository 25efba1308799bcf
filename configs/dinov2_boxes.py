"""DINOv2 L/14: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/dinov2_boxes.py

The paper, Table 6: mean IoU 0.37, best of 10 0.46,
perception 0.52. Table 2: Fréchet distance 3.08.
"""

from forecasting import config

get_config = config.paper_experiment("dinov2", "boxes")
