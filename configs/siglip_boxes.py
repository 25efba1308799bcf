"""SigLIP G-opt/14: forecasting boxes on Waymo Open.

python -m forecasting.main --config=configs/siglip_boxes.py

The paper, Table 6: mean IoU 0.14, best of 10 0.24,
perception 0.2. Table 2: Fréchet distance 3.22.
"""

from forecasting import config

get_config = config.paper_experiment("siglip", "boxes")
