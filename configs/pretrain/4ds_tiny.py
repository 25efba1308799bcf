"""Pretrains the shipped backbone by masked autoencoding of embedded clips.

python -m forecasting.pretrain --config=configs/pretrain/4ds_tiny.py \
  --workdir=runs/pretrain_4ds_tiny

With `:smoke` behind the file name: a few steps on a few clips.
"""

from ml_collections import ConfigDict

from forecasting import config


def get_config(variant: str = "") -> ConfigDict:
  """Returns the fields of the run; `variant` is empty or 'smoke'."""
  if variant not in ("", "smoke"):
    raise ValueError(
      f"unknown config variant {variant!r}: expected nothing or 'smoke', as in"
      " --config=configs/pretrain/4ds_tiny.py:smoke"
    )
  cfg = ConfigDict()
  cfg.name = "pretrain_4ds_tiny"
  cfg.seed = 0
  cfg.backbone = "4ds_tiny"
  cfg.data = config.data_config()
  cfg.data.train_clips = 3072
  cfg.masked_pixels = ConfigDict(
    {
      "masking": "random",  # or 'tube'
      "mask_fraction": 0.9,
      "decode_fraction": 0.25,  # of the hidden tubelets, in each step
      "decoder_width": 96,
      "decoder_depth": 2,
      "decoder_heads": 2,
      "normalize_target": False,
      "visible_weight": 1.0,  # of reconstructing what the encoder saw
      "flip": True,
    }
  )
  cfg.optimizer = config.optimizer_config(2e-3, weight_decay=0.05, b2=0.95)
  cfg.optimizer.warmup_steps = 100
  cfg.optimizer.end_factor = 0.01
  cfg.steps = 5000
  cfg.ema_decay = 0.995
  cfg.train = config.train_config()
  cfg.train.batch_size = 16
  cfg.train.log_every = 25
  cfg.train.checkpoint_every = 200
  if variant == "smoke":
    cfg.name += "_smoke"
    cfg.data.train_clips = 16
    cfg.data.eval_clips = 4
    cfg.train.batch_size = 4
    cfg.train.log_every = 2
    cfg.steps = 6
  return cfg
