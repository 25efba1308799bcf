"""VideoMAE H: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/videomae_pixels.py

The paper, Table 6: PSNR 17.48 dB, best of 10 18.99 dB,
perception 23.95 dB. Table 2: Fréchet distance 33.76.
"""

from forecasting import config

get_config = config.paper_experiment("videomae", "pixels")
