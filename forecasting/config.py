"""Every field of a run and its default.

`base_config()` holds all defaults and `presets.py` what differs from them;
`experiment(backbone, tasks)` and `paper_experiment(model, task)` put them
together, so that a file in `configs/` is one call. Fields marked (paper) are
fixed by arXiv 2507.13942; all others are choices of ours. `validation.validate`
checks a config before anything expensive starts.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from forecasting import presets
from forecasting.backbones.zoo import get_spec
from forecasting.forecaster_config import forecaster_config, optimizer_config

TASK_NAMES = ("pixels", "depth", "points", "boxes")


def base_config() -> ConfigDict:
  """Returns the full-size defaults of a run."""
  return ConfigDict(
    {
      "name": "unnamed",
      "seed": 0,
      "tasks": TASK_NAMES,
      "backbone": backbone_config(),
      "data": data_config(),
      "latents": latents_config(),
      "readout": readout_config(),
      "forecaster": forecaster_config(),
      # Which forecasters are trained and scored, and which training-free
      # baselines stand beside them in every table.
      "forecasters": ("flow", "regression"),
      "baselines": (
        "persistence_latent",
        "persistence_output",
        "constant_velocity",
        "climatology",
        "oracle_future",
      ),
      "train": train_config(),
      "eval": eval_config(),
      # Folder of compiled programs, which restarts reuse; None:
      # <workdir>/compiled.
      "compiled": placeholder(str),
    }
  )


def backbone_config() -> ConfigDict:
  """Which frozen model, which weights, which layer."""
  return ConfigDict(
    {
      "name": "4ds_tiny",
      # Path of the weights. None: the weights shipped with the package if the
      # backbone has any, else an error that says what to download.
      "checkpoint": placeholder(str),
      # Random weights instead of a checkpoint: the reference that any
      # pretraining has to beat.
      "random_init": False,
      # 'default' is the spec's own; 'final' or a relative depth in (0, 1].
      "layer": "default",
      # 'crop_pos', 'pad_last' or, as a labelled ablation only,
      # 'leaky_full_clip'. 'default' is the spec's own.
      "context_mode": "default",
      # Whether every token is normalized over its channels (paper).
      "layernorm": True,
      # Of parameters and matrix products while encoding, 'float32' or
      # 'bfloat16'; norms and softmax are in float32 with both.
      "dtype": "float32",
      # What the family lets one choose beside these, such as W.A.L.T.'s noise
      # level: the `options` of the backbone's spec.
      "options": {},
    }
  )


def data_config() -> ConfigDict:
  """Which clips, and how many of each split."""
  return ConfigDict(
    {
      "name": "mujoco_scenes",  # or 'videos', 'scannet', 'movi', 'waymo', ...
      # Other data to score on; None: the eval split of the same.
      "eval_name": placeholder(str),
      "eval_path": placeholder(str),
      "root": placeholder(str),  # None: <workdir>/data
      "seed": 0,  # of the simulated scenes and of augmentation
      "size": 64,
      "num_frames": 16,  # (paper)
      "num_context": 4,  # (paper)
      "train_clips": 2048,
      "eval_clips": 512,
      # The last of the training clips, which nothing trains on (`held_out.py`;
      # ours): readouts are off by as much on them as on clips to score.
      "held_out_clips": 0,
      # Several true futures of one context, for calibration (embedded data).
      "future_contexts": 64,
      "futures_per_context": 16,
      # Clips to score on that are longer than those of training (embedded
      # data): frames of each, 0 for none, and how many.
      "horizon_frames": 0,
      "horizon_clips": 64,
      "workers": 2,
      # Half of the training clips mirrored, with all their labels; which half
      # is fixed, since latents are computed once.
      "random_flip": False,
      # mujoco_scenes: rays per pixel and side (1 or 2), labels per clip.
      "rays": 1,
      "num_points": 64,
      "num_boxes": 5,
      # How scenes unfold (`frames/scenes/physics.py`; ours): seconds between
      # frames, meters per second, probabilities after the context.
      "scenes": {
        "interval": 0.04,
        "camera_speed": 0.2,
        "turn_probability": 0.4,
        "kick_probability": 0.4,
      },
      # videos: folder of files, frames kept per second, kept frames from one
      # window to the next, share of every file held out.
      "path": placeholder(str),
      "fps": 25.0,
      "window_stride": 1,
      "eval_fraction": 0.3,
      "geometry": "crop",  # or 'squeeze': the whole frame, aspect ratio lost
      # Only so many files, scans or videos, spread over the split.
      "max_recordings": placeholder(int),
      # Of the real data sets; see their readers in `frames/`.
      "labels": placeholder(tuple),  # ScanNet: () for all windows, also those
      # with little depth; None: all that the data has
      "stride": 4,  # Perception Test: frames of the file per kept frame (paper)
      "eval_windows": 8,  # ScanNet: windows of each scan that are scored
      "starts_per_video": 1,  # MOVi: training clips of each video
      "random_crop": False,  # MOVi: of training clips
      "min_joint_frames": 0,  # Waymo: frames in which all boxes are present
    }
  )


def latents_config() -> ConfigDict:
  """The store of frozen latents."""
  return ConfigDict(
    {
      "root": placeholder(str),  # None: <workdir>/latents
      # A folder with the stores `train` and `eval` that were written elsewhere,
      # with any backbone (`forecasting/latents/store.py`); the backbone and
      # the data of this config are then not used.
      "path": placeholder(str),
      "dtype": "bfloat16",  # 'bfloat16', 'float32' or 'int8' (scale per token)
      "extract_if_missing": True,
      "batch_size": 16,
      "clips_per_shard": 128,
    }
  )


def readout_config() -> ConfigDict:
  """Attention readouts (tasks.md 2): one per task, trained on true latents."""
  return ConfigDict(
    {
      # Workdir of a run with the same backbone and readouts, whose trained
      # readouts this run takes; empty: it trains its own.
      "from_run": "",
      "width": 1024,
      "heads": {"pixels": 16, "depth": 16, "points": 8, "boxes": 4},
      "query_hidden": 512,  # MLP on the Fourier features of a query
      # 'time': one learned embedding a frame, as in the official readout.
      # 'space_time' (ours) adds waves of their place to tokens and queries,
      # with which a short training finds what it looks for.
      "positions": "time",
      # Of the initial last layer: its kernel over Flax's default, its bias.
      "output_scale": 1.0,
      "output_mean": {"pixels": 0.0, "depth": 0.0, "points": 0.0, "boxes": 0.0},
      # Points and boxes as ways from their queries instead of places (ours).
      "anchored": False,
      # Points this near the truth, in pixels of a 256 x 256 frame, count as
      # certain; those that are not are predicted invisible (official: 6).
      "certain_within": 6.0,
      "patch": (2, 8, 8),  # frames, rows, columns of one dense query
      # Noise on the latents of training, over the deviation that layernorm
      # gives a token, after RAE's decoder: what is read from samples gets less
      # noisy, and perception a little worse.
      "noise": 0.0,
      # Dense queries and tracks used per training step; 0 is all of them. A
      # random subset is exact in expectation since queries never interact.
      "train_queries": 0,
      "train_tracks": 0,
      "steps": 40_000,  # (paper)
      "optimizer": optimizer_config(3e-4, weight_decay=1e-4, b2=0.999),
      "ema_decay": 0.999,
    }
  )


def train_config() -> ConfigDict:
  """The loop."""
  return ConfigDict(
    {
      "batch_size": 32,  # (paper)
      "log_every": 50,
      "checkpoint_every": 1000,
      "keep": 2,  # newest checkpoints
      "keep_every": 0,  # those of every so many steps too; 0: none
      "fsdp": 1,  # devices over which parameters are split
      "accumulate": 1,  # parts of a batch, one after the other
      # Steps recorded for a profiler in <workdir>/profile, after the first ten.
      "profile_steps": 0,
      "tensorboard": False,  # needs the [tensorboard] extra
    }
  )


def eval_config() -> ConfigDict:
  """Scores, intervals, report."""
  return ConfigDict(
    {
      "num_samples": 10,  # (paper)
      "batch_size": 8,  # sampled on one chip
      # Training clips, evenly spread, that baselines such as climatology are
      # fitted to (ours): enough that the draws of an example hardly repeat,
      # few enough to stay in memory.
      "bank_clips": 512,
      # Clips, evenly spread over those held out, on which readouts are off by
      # what forecasts are dressed with (`metrics/dressing.py`; ours); training
      # clips, which flatter them, if none are held out. 0: with nothing.
      "dressing_clips": 256,
      # Of those held out, as many on which a forecaster's spread is fitted to
      # its error before it is dressed; 0: it is left as it is.
      "spread_clips": 128,
      "bootstrap": 1000,
      "bootstrap_frechet": 50,
      "num_panels": 3,
    }
  )


def experiment(
  backbone: str,
  tasks: tuple[str, ...] | str,
  *,
  name: str | None = None,
  overrides: Mapping[str, Any] | None = None,
) -> Callable[..., ConfigDict]:
  """Returns the `get_config` of one file in `configs/`, on embedded data.

  Args:
    backbone: a name of `backbones.zoo`; the tiny ones get `presets.TINY`.
    tasks: one task name or several.
    name: of the run; `<backbone>_<task>` if None.
    overrides: dotted field to value, applied last but for the variant's own.

  Returns:
    A function of the text behind the colon of `--config=FILE:TEXT`: empty for
    the run itself, `smoke` for its reduced form.
  """
  tasks = (tasks,) if isinstance(tasks, str) else tasks

  def get_config(variant: str = "") -> ConfigDict:
    config = _of_backbone(backbone, variant)
    config.name = name or f"{backbone}_{'_'.join(tasks)}"
    config.tasks = tasks
    config.update_from_flattened_dict(overrides or {})
    return _finished(config, variant)

  return get_config


def paper_experiment(model: str, task: str) -> Callable[..., ConfigDict]:
  """Returns the `get_config` of one cell of the paper's tables.

  Args:
    model: a name of `presets.MODELS`.
    task: a task name; chooses the data.

  Returns:
    As `experiment`. The variant `smoke` runs the tiny backbone of the family on
    the embedded data.
  """
  backbone, tiny, overrides = presets.MODELS[model]

  def get_config(variant: str = "") -> ConfigDict:
    config = _of_backbone(tiny if variant else backbone, variant)
    config.name = f"{model}_{task}"
    config.tasks = (task,)
    if not variant:
      config.data.size = get_spec(backbone).resolution
      config.data.future_contexts = 0
      config.update_from_flattened_dict(presets.PAPER[task])
    config.update_from_flattened_dict(overrides)
    return _finished(config, variant)

  return get_config


def _of_backbone(backbone: str, variant: str) -> ConfigDict:
  """Returns the defaults for a backbone.

  Raises:
    ValueError: the variant is unknown.
  """
  if variant not in ("", "smoke"):
    raise ValueError(
      f"unknown config variant {variant!r}: expected nothing or 'smoke', "
      "as in --config=configs/quickstart.py:smoke"
    )
  config, spec = base_config(), get_spec(backbone)
  config.backbone.name = backbone
  config.backbone.options.update(spec.options)
  if backbone.endswith("_tiny"):
    config.update_from_flattened_dict(presets.TINY)
    # Those that were not pretrained yet run with the weights they start from.
    config.backbone.random_init = not spec.checkpoint
  return config


def _finished(config: ConfigDict, variant: str) -> ConfigDict:
  """Applies the variant and locks the config."""
  if variant == "smoke":
    config.name += "_smoke"
    config.update_from_flattened_dict(presets.SMOKE)
  return config.lock()
