"""N-W.A.L.T.: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/n_walt_pixels.py

The paper, Table 6: PSNR 20.59 dB, best of 10 20.77 dB,
perception 24.47 dB. Table 2: Fréchet distance 10.9.
"""

from forecasting import config

get_config = config.paper_experiment("n_walt", "pixels")
