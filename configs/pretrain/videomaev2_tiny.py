"""Pretrains videomaev2_tiny: VideoMAE with a masked decoder.

python -m forecasting.pretrain --config=configs/pretrain/videomaev2_tiny.py \
  --workdir=runs/pretrain_videomaev2_tiny
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "videomaev2_tiny",
  {
    "name": "masked_pixels",
    "masking": "tube",
    "mask_fraction": 0.9,
    "decoding": "running_cell",
    "decode_fraction": 0.5,
    "decoder_width": 96,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "normalize_target": True,
    "visible_weight": 0.0,
    "flip": True,
  },
  {"train.batch_size": 8},
)
