"""V-JEPA L: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/vjepa_depth.py

The paper, Table 6: absolute relative error 0.2, best of 10 0.119,
perception 0.107. Table 2: Fréchet distance 710.5.
"""

from forecasting import config

get_config = config.paper_experiment("vjepa", "depth")
