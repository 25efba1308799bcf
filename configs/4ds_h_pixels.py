"""4DS-h: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/4ds_h_pixels.py

The paper, Table 6: PSNR 17.78 dB, best of 10 19.64 dB,
perception 24.62 dB. Table 2: Fréchet distance 32.52.
"""

from forecasting import config

get_config = config.paper_experiment("4ds_h", "pixels")
