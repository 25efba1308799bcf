"""N-W.A.L.T.: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/n_walt_depth.py

The paper, Table 6: absolute relative error 0.24, best of 10 0.186,
perception 0.164. Table 2: Fréchet distance 263.96.
"""

from forecasting import config

get_config = config.paper_experiment("n_walt", "depth")
