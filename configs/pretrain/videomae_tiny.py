"""Pretrains videomae_tiny by masked autoencoding of embedded clips.

python -m forecasting.pretrain --config=configs/pretrain/videomae_tiny.py \
  --workdir=runs/pretrain_videomae_tiny
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "videomae_tiny",
  {
    "name": "masked_pixels",
    "masking": "tube",
    "mask_fraction": 0.9,
    "decode_fraction": 1.0,
    "decoder_width": 96,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "normalize_target": True,
    "visible_weight": 0.0,
    "flip": True,
  },
  {"train.batch_size": 8},
)
