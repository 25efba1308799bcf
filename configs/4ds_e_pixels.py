"""4DS-e: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/4ds_e_pixels.py

The paper, Table 6: PSNR 17.94 dB, best of 10 19.66 dB,
perception 26.03 dB. Table 2: Fréchet distance 32.26.
"""

from forecasting import config

get_config = config.paper_experiment("4ds_e", "pixels")
