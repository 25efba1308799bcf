"""VideoPrism giant: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/videoprism_boxes.py

The paper, Table 6: mean IoU 0.44, best of 10 0.51,
perception 0.63. Table 2: Fréchet distance 2.72.
"""

from forecasting import config

get_config = config.paper_experiment("videoprism", "boxes")
