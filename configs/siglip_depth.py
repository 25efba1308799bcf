"""SigLIP G-opt/14: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/siglip_depth.py

The paper, Table 6: absolute relative error 0.21, best of 10 0.143,
perception 0.143. Table 2: Fréchet distance 872.09.
"""

from forecasting import config

get_config = config.paper_experiment("siglip", "depth")
