"""W.A.L.T. 419M: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/walt_depth.py

The paper, Table 6: absolute relative error 0.23, best of 10 0.13,
perception 0.164. Table 2: Fréchet distance 222.92.
"""

from forecasting import config

get_config = config.paper_experiment("walt", "depth")
