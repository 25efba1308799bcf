"""V-JEPA L: forecasting pixels on ScanNet.

python -m forecasting.main --config=configs/vjepa_pixels.py

The paper, Table 6: PSNR 17.12 dB, best of 10 18.11 dB,
perception 20.95 dB. Table 2: Fréchet distance 61.46.
"""

from forecasting import config

get_config = config.paper_experiment("vjepa", "pixels")
