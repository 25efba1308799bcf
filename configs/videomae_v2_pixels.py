"""VideoMAEv2 g: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/videomae_v2_pixels.py

The paper, Table 6: PSNR 16.55 dB, best of 10 17.92 dB,
perception 21.82 dB. Table 2: Fréchet distance 45.57.
"""

from forecasting import config

get_config = config.paper_experiment("videomae_v2", "pixels")
