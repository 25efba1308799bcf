"""W.A.L.T. 419M: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/walt_pixels.py

The paper, Table 6: PSNR 18.19 dB, best of 10 19.53 dB,
perception 24.47 dB. Table 2: Fréchet distance 8.6.
"""

from forecasting import config

get_config = config.paper_experiment("walt", "pixels")
