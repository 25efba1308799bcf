"""W.A.L.T. 419M: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/walt_boxes.py

The paper, Table 6: mean IoU 0.5, best of 10 0.58,
perception 0.68. Table 2: Fréchet distance 2.47.
"""

from forecasting import config

get_config = config.paper_experiment("walt", "boxes")
