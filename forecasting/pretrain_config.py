"""Fields of a pretraining run; a file in `configs/pretrain/` is one call."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from forecasting import config

# Reduced far enough for continuous integration.
SMOKE = {
  "data.train_clips": 16,
  "data.eval_clips": 4,
  "train.batch_size": 4,
  "train.log_every": 2,
  "steps": 6,
}

# Of the embedded clips and small networks, on which a recipe's `:smoke` runs.
_SMALL = {
  "objective.width": 96,
  "objective.depth": 2,
  "objective.heads": 2,
  "data.name": "mujoco_scenes",
  "data.path": None,
  "data.size": 64,
  "data.fps": 25.0,
}


def pretraining(
  backbone: str,
  objective: Mapping[str, Any],
  overrides: Mapping[str, Any] | None = None,
  *,
  name: str | None = None,
  smoke: Mapping[str, Any] | None = None,
) -> Callable[..., ConfigDict]:
  """Returns the `get_config` of one file in `configs/pretrain/`.

  The defaults are those of tiny backbones on embedded clips. All see the same
  clips; where an objective takes other batches or rates, or fewer steps of an
  expensive kind, its file says so.

  Args:
    backbone: a name of `backbones.zoo`.
    objective: fields of `config.objective`; 'name' chooses the task, see
      `pretraining/registry.py`.
    overrides: dotted field to value.
    name: of the run; `pretrain_<backbone>` if None.
    smoke: dotted field to value, of the variant `smoke` alone.

  Returns:
    A function of the text behind the colon of `--config=FILE:TEXT`: empty for
    the run itself, `smoke` for a few steps on a few clips.
  """

  def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "smoke"):
      raise ValueError(
        f"unknown config variant {variant!r}: expected nothing or 'smoke', as"
        f" in --config=configs/pretrain/{backbone}.py:smoke"
      )
    cfg = base(backbone)
    cfg.name = name or f"pretrain_{backbone}"
    cfg.objective = ConfigDict(dict(objective), type_safe=False)
    cfg.update_from_flattened_dict(overrides or {})
    if variant == "smoke":
      cfg.name += "_smoke"
      cfg.update_from_flattened_dict({**SMOKE, **(smoke or {})})
    return cfg

  return get_config


def base(backbone: str) -> ConfigDict:
  """Returns all fields but those of the objective."""
  cfg = ConfigDict()
  cfg.name = ""
  cfg.seed = 0
  cfg.backbone = backbone
  cfg.data = config.data_config()
  cfg.data.train_clips = 3072
  cfg.optimizer = config.optimizer_config(2e-3, weight_decay=0.05, b2=0.95)
  cfg.optimizer.warmup_steps = 100
  cfg.optimizer.end_factor = 0.01
  # Updates and their rates, in place of warm-up and cosine; and such points for
  # single parts of the parameters.
  cfg.optimizer.points = ()
  cfg.optimizer.parts = ConfigDict()
  cfg.steps = 5000
  cfg.ema_decay = 0.995
  # Without it, a teacher is a slow average from the first step on.
  cfg.ema_warm_up = True
  cfg.train = config.train_config()
  cfg.train.batch_size = 16
  cfg.train.log_every = 25
  cfg.train.checkpoint_every = 200
  return cfg


# Published rates of NExT-Vid: warm-up, two stages that fall slowly. Its
# decoder has a rate of its own in the last of them.
_NEXT_VID_POINTS = ((0, 1e-4), (12_000, 5e-4), (40_000, 4.5e-4))
_NEXT_VID_END = (120_000, 1e-4)


def next_vid(backbone: str) -> Callable[..., ConfigDict]:
  """Returns the `get_config` of NExT-Vid's published recipe for one size.

  What is published and kept: sizes of predictor and decoder, maskings, weights
  of the losses, batch, average, optimizer, and the rates of the first three
  stages (12K + 28K + 80K steps). Not covered: the cool-down on 64 frames; the
  latents of VA-VAE as targets, in whose place stand pixels; the paper's videos,
  in whose place stands a folder of yours, `data.path`.

  Args:
    backbone: next_vid_l, next_vid_h or next_vid_g.

  Source: arXiv 2512.21004; the share of visible places is ours.
  """
  return pretraining(
    backbone,
    {
      "name": "next_frame",
      "maskings": (
        {"blocks": 8, "area": 0.15, "visible": 0.25},
        {"blocks": 2, "area": 0.7, "visible": 0.125},
      ),
      "aspect": (0.75, 1.5),
      "width": 384,
      "depth": 12,
      "heads": 12,
      "times": 4,
      "align_weight": 1.0,
      "flow_weight": 0.5,
      "normalize_target": False,
      "flip": True,
    },
    {
      "data.name": "videos",
      "data.path": "",
      "data.size": 256,
      "data.fps": 4.0,
      "data.train_clips": 2**31,
      "optimizer.weight_decay": 0.04,
      "optimizer.points": (*_NEXT_VID_POINTS, _NEXT_VID_END),
      "optimizer.parts": {
        "decoder": (*_NEXT_VID_POINTS, (40_001, 8e-4), (120_000, 8e-4))
      },
      "steps": 120_000,
      "ema_decay": 0.99925,
      "ema_warm_up": False,
      "train.batch_size": 3072,
      "train.checkpoint_every": 1000,
    },
    smoke={"backbone": "next_vid_tiny", **_SMALL},
  )
