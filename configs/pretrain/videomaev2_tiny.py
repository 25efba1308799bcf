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
    # The paper's 0.9 leaves 6 of 64 places: too few to see bodies by.
    "mask_fraction": 0.75,
    "decoding": "running_cell",
    "decode_fraction": 0.25,  # the paper's is 0.5, in twice the time
    "decoder_width": 96,
    "decoder_depth": 2,
    "decoder_heads": 2,
    # The paper normalizes each tubelet; in these scenes most are flat, and what
    # is left of them cannot be foreseen.
    "normalize_target": False,
    # Not in the paper: short of its 1,200 epochs, nothing else keeps a token's
    # own pixels in it.
    "visible_weight": 1.0,
    "flip": True,
  },
  {"train.batch_size": 8, "steps": 8000},
)
