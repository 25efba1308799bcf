"""Pretrains siglip_tiny on frames and captions of embedded scenes.

python -m forecasting.pretrain --config=configs/pretrain/siglip_tiny.py \
  --workdir=runs/pretrain_siglip_tiny
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "siglip_tiny",
  {
    "name": "image_text",
    "text_width": 96,
    "scale": (0.7, 1.0),  # share of the frame that a crop shows
  },
  {"train.batch_size": 64, "optimizer.learning_rate": 1e-3, "steps": 4000},
)
