"""V-JEPA L: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/vjepa_boxes.py

The paper, Table 6: mean IoU 0.49, best of 10 0.58,
perception 0.74. Table 2: Fréchet distance 2.85.
"""

from forecasting import config

get_config = config.paper_experiment("vjepa", "boxes")
