"""VideoPrism giant: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/videoprism_depth.py

The paper, Table 6: absolute relative error 0.16, best of 10 0.081,
perception 0.102. Table 2: Fréchet distance 948.14.
"""

from forecasting import config

get_config = config.paper_experiment("videoprism", "depth")
