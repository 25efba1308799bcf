"""N-W.A.L.T.: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/n_walt_boxes.py

The paper, Table 6: mean IoU 0.41, best of 10 0.47,
perception 0.68. Table 2: Fréchet distance 2.31.
"""

from forecasting import config

get_config = config.paper_experiment("n_walt", "boxes")
