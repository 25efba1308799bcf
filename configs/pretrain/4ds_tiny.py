"""Pretrains the shipped backbone by masked autoencoding of embedded clips.

python -m forecasting.pretrain --config=configs/pretrain/4ds_tiny.py \
  --workdir=runs/pretrain_4ds_tiny

With `:smoke` behind the file name: a few steps on a few clips.
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "4ds_tiny",
  {
    "name": "masked_pixels",
    "masking": "random",  # or 'tube'
    "mask_fraction": 0.9,
    "decode_fraction": 0.25,  # of the hidden tubelets, in each step
    "decoder_width": 96,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "normalize_target": False,
    "visible_weight": 1.0,  # of reconstructing what the encoder saw
    "flip": True,
  },
)
