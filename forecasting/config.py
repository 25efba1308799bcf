"""Every field of a run and its default.

`base_config()` holds all defaults; `PRESETS` holds the differences of a
backbone's size class; `experiment(backbone, tasks)` puts them together, so
that a file in `configs/` is one call. Fields marked (paper) are fixed by
arXiv 2507.13942; all others are choices of ours. `validation.validate` checks
a config before anything expensive starts.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from forecasting.backbones.zoo import get_spec

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
      "name": "mujoco_scenes",  # or 'videos'
      "root": placeholder(str),  # None: <workdir>/data
      "seed": 0,  # of the simulated scenes
      "size": 64,
      "num_frames": 16,  # (paper)
      "num_context": 4,  # (paper)
      "train_clips": 2048,
      "eval_clips": 512,
      # Several true futures of one context, for calibration (embedded data).
      "future_contexts": 64,
      "futures_per_context": 16,
      "workers": 2,
      # mujoco_scenes: rays per pixel and side (1 or 2), labels per clip.
      "rays": 1,
      "num_points": 64,
      "num_boxes": 5,
      # videos: folder of files, frames kept per second, kept frames from one
      # window to the next, share of every file held out.
      "path": placeholder(str),
      "fps": 25.0,
      "window_stride": 1,
      "eval_fraction": 0.3,
      "geometry": "crop",  # or 'squeeze': the whole frame, aspect ratio lost
    }
  )


def latents_config() -> ConfigDict:
  """The store of frozen latents."""
  return ConfigDict(
    {
      "root": placeholder(str),  # None: <workdir>/latents
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
      "patch": (2, 8, 8),  # frames, rows, columns of one dense query
      "num_points": 64,
      "num_boxes": 25,
      # Dense queries and tracks used per training step; 0 is all of them. A
      # random subset is exact in expectation since queries never interact.
      "train_queries": 0,
      "train_tracks": 0,
      "steps": 40_000,  # (paper)
      "optimizer": optimizer_config(3e-4, weight_decay=1e-4, b2=0.999),
      "ema_decay": 0.999,
    }
  )


def forecaster_config() -> ConfigDict:
  """The forecaster (forecaster.md): network, objective, sampler."""
  return ConfigDict(
    {
      "steps": 40_000,  # (paper)
      "optimizer": optimizer_config(2e-4, weight_decay=0.0, b2=0.95),
      "ema_decay": 0.9995,
      "model": {
        "width": 1024,
        "depth": 16,
        "heads": 16,
        # Latent tokens merged per side before the network; 1 keeps the grid.
        "patch": 1,
        "conditioning": "joint_asym",  # or 'joint_full', 'cross'
        "attention": "full",  # or 'factorized'
        "qk_norm": True,
        "head_width": 0,  # 0: no wide head
        "head_depth": 2,
        "dtype": "default",  # bfloat16 matmuls on accelerators, float32 on CPU
      },
      "normalize": {
        "stats": "per_channel",  # or 'per_channel_time', 'none'
        "target_transform": "residual_last",  # or 'none'
        "project_ln": False,
      },
      "flow": {
        "prediction": "x0",  # or 'v', 'eps'
        "loss_space": "v",  # or 'x0', 'eps'
        "shift": "auto_slot",  # 'auto_full' or a number
        "noise_multiplicity": 1,
        "context_dropout": 0.1,
        "context_noise": 0.0,
      },
      "ddpm": {
        "prediction": "v",  # or 'eps', 'x0'
        "levels": 1000,
        "sampler": "ddim",  # or 'ancestral'
        "steps": 50,
        "eta": 0.0,
      },
      "sampler": {
        "name": "dpmpp_2m",  # 'euler', 'heun', 'ddim', 'ancestral', 'sde'
        "grid": "logsnr",  # 'uniform', 'shifted', 'edm'
        "steps": 16,
        "t_max": 0.998,
        "t_min": 0.005,
        "shift": 1.0,
        "rho": 7.0,
        "eta": 0.0,
        "churn": 0.0,
        "noise_inflation": 1.0,
        "guidance": 0.0,
      },
      "regression": {"loss": "mse"},  # or 'smooth_l1'
    }
  )


def optimizer_config(
  learning_rate: float, weight_decay: float, b2: float
) -> ConfigDict:
  """AdamW, linear warm-up, cosine to `end_factor` of the peak."""
  return ConfigDict(
    {
      "learning_rate": learning_rate,
      "warmup_steps": 1000,
      "end_factor": 0.1,
      "b1": 0.9,
      "b2": b2,
      "weight_decay": weight_decay,  # kernels only
      "clip_norm": 1.0,
    }
  )


def train_config() -> ConfigDict:
  """The loop."""
  return ConfigDict(
    {
      "batch_size": 32,  # (paper)
      "log_every": 50,
      "checkpoint_every": 1000,
      "keep": 2,
      "fsdp": 1,  # devices over which parameters are split
      "tensorboard": False,  # needs the [tensorboard] extra
    }
  )


def eval_config() -> ConfigDict:
  """Scores, intervals, report."""
  return ConfigDict(
    {
      "num_samples": 10,  # (paper)
      "batch_size": 16,
      "bootstrap": 1000,
      "bootstrap_frechet": 50,
      "num_panels": 3,
    }
  )


# What makes a run of 4ds_tiny fit a laptop: small heads that are trained on a
# random subset of their queries, 2 x 2 latent tokens merged into one for the
# forecaster, and few attention heads, whose softmax is what a CPU is slow at.
TINY = {
  "data.num_points": 32,
  "data.eval_clips": 256,
  "data.future_contexts": 16,
  # Small enough that the attention weights of a batch stay in the cache: half
  # the time of batches of 16.
  "latents.batch_size": 4,
  "eval.batch_size": 4,
  "readout.width": 128,
  "readout.heads.pixels": 2,
  "readout.heads.depth": 2,
  "readout.heads.points": 2,
  "readout.heads.boxes": 2,
  "readout.query_hidden": 128,
  "readout.positions": "space_time",
  "readout.output_scale": 0.1,
  "readout.output_mean.pixels": 0.5,
  "readout.output_mean.depth": 4.0,
  "readout.output_mean.boxes": 0.5,
  "readout.num_boxes": 5,
  "readout.train_queries": 64,
  "readout.train_tracks": 8,
  "readout.steps": 1200,
  "readout.ema_decay": 0.99,
  "readout.optimizer.learning_rate": 5e-3,
  "readout.optimizer.warmup_steps": 100,
  "forecaster.model.width": 128,
  "forecaster.model.depth": 3,
  "forecaster.model.heads": 4,
  "forecaster.model.patch": 2,
  "forecaster.steps": 1200,
  "forecaster.sampler.steps": 10,
  "forecaster.ema_decay": 0.995,
  "forecaster.optimizer.learning_rate": 1e-3,
  "forecaster.optimizer.warmup_steps": 100,
  "train.batch_size": 8,
  "train.checkpoint_every": 200,
}

# Reduced far enough for continuous integration; the numbers mean nothing.
SMOKE = {
  "data.train_clips": 32,
  "data.eval_clips": 8,
  "data.future_contexts": 2,
  "data.futures_per_context": 4,
  "readout.steps": 6,
  "forecaster.steps": 6,
  "forecaster.model.width": 64,
  "forecaster.model.depth": 1,
  "forecaster.sampler.steps": 2,
  "forecaster.ddpm.steps": 2,
  "train.batch_size": 4,
  "train.log_every": 2,
  "train.checkpoint_every": 4,
  "eval.num_samples": 4,
  "eval.bootstrap": 50,
  "eval.bootstrap_frechet": 4,
  "eval.num_panels": 1,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {"4ds_tiny": TINY}


def experiment(
  backbone: str,
  tasks: tuple[str, ...] | str,
  *,
  name: str | None = None,
  overrides: Mapping[str, Any] | None = None,
) -> Callable[..., ConfigDict]:
  """Returns the `get_config` of one file in `configs/`.

  Args:
    backbone: a name of `backbones.zoo`.
    tasks: one task name or several.
    name: of the run; `<backbone>_<task>` if None.
    overrides: dotted field to value, applied last but for the variant's own.

  Returns:
    A function of the text behind the colon of `--config=FILE:TEXT`: empty for
    the run itself, `smoke` for its reduced form.
  """
  tasks = (tasks,) if isinstance(tasks, str) else tasks

  def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "smoke"):
      raise ValueError(
        f"unknown config variant {variant!r}: expected nothing or 'smoke', "
        "as in --config=configs/quickstart.py:smoke"
      )
    config = base_config()
    config.name = name or f"{backbone}_{'_'.join(tasks)}"
    config.backbone.name = backbone
    config.backbone.options.update(get_spec(backbone).options)
    config.tasks = tasks
    config.update_from_flattened_dict(PRESETS.get(backbone, {}))
    config.update_from_flattened_dict(overrides or {})
    if variant == "smoke":
      config.name += "_smoke"
      config.update_from_flattened_dict(SMOKE)
    return config.lock()

  return get_config
