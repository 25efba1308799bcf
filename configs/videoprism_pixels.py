"""VideoPrism giant: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/videoprism_pixels.py

The paper, Table 6: PSNR 16.54 dB, best of 10 17.39 dB,
perception 21.85 dB. Table 2: Fréchet distance 83.44.
"""

from forecasting import config

get_config = config.paper_experiment("videoprism", "pixels")
