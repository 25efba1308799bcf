"""SigLIP G-opt/14: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/siglip_pixels.py

The paper, Table 6: PSNR 13.47 dB, best of 10 13.9 dB,
perception 16.36 dB. Table 2: Fréchet distance 182.74.
"""

from forecasting import config

get_config = config.paper_experiment("siglip", "pixels")
