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
    # The paper's 0.9 leaves 6 of 64 places: too few to see bodies by.
    "mask_fraction": 0.75,
    # The paper decodes all that is hidden; a fourth, drawn anew in each step,
    # takes less than half of the time.
    "decode_fraction": 0.25,
    "decoder_width": 96,
    "decoder_depth": 2,
    "decoder_heads": 2,
    # The paper normalizes each tubelet; in these scenes most are flat, and what
    # is left of them cannot be foreseen.
    "normalize_target": False,
    # Not in the paper: short of its 800 epochs, nothing else keeps a token's
    # own pixels in it.
    "visible_weight": 1.0,
    "flip": True,
  },
  {"train.batch_size": 8, "steps": 8000},
)
