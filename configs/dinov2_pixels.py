"""DINOv2 L/14: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/dinov2_pixels.py

The paper, Table 6: PSNR 15.28 dB, best of 10 16.14 dB,
perception 19.25 dB. Table 2: Fréchet distance 82.3.
"""

from forecasting import config

get_config = config.paper_experiment("dinov2", "pixels")
