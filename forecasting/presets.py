"""Differences from the defaults of `config.base_config`, as dotted fields.

TINY makes a run fit a laptop, SMOKE fits continuous integration, PAPER is what
arXiv 2507.13942 trains and scores each task on.
"""

from collections.abc import Mapping
from typing import Any

# Small heads that are trained on a random subset of their queries, 2 x 2 latent
# tokens merged into one for the forecaster, and few attention heads, whose
# softmax is what a CPU is slow at.
TINY = {
  "data.num_points": 32,
  "data.train_clips": 2176,
  "data.held_out_clips": 128,
  "data.eval_clips": 256,
  "data.future_contexts": 16,
  # Small enough that the attention weights of a batch stay in the cache: half
  # the time of batches of 16.
  "latents.batch_size": 4,
  "eval.batch_size": 4,
  "eval.spread_clips": 64,
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
  "readout.anchored": True,
  # The coarsest threshold of Average Jaccard: 4 pixels of a 64-pixel frame.
  "readout.certain_within": 16.0,
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
  "forecaster.vae.width": 128,
  "forecaster.vae.steps": 600,
  # No guidance is used, so the context need never be left out.
  "forecaster.flow.context_dropout": 0.0,
  # Below x0 in energy score in boxes and points over three seeds
  # (`configs/study_forecaster.py`), and in all tasks of the quickstart.
  "forecaster.flow.prediction": "edm",
  # Which way everything goes is decided where there is most noise: a third of
  # the steps does with a shift of 6 what takes all with that of 'auto_slot'.
  "forecaster.flow.shift": "6.0",
  "forecaster.sampler.steps": 10,
  # Below, networks this narrow add errors: they cannot pass z through.
  "forecaster.sampler.t_min": 0.1,
  "forecaster.ema_decay": 0.995,
  "forecaster.optimizer.learning_rate": 1e-3,
  "forecaster.optimizer.warmup_steps": 100,
  "train.batch_size": 8,
  "train.checkpoint_every": 200,
}

# Reduced far enough for continuous integration; the numbers mean nothing.
SMOKE = {
  "data.train_clips": 32,
  "data.held_out_clips": 4,
  "data.eval_clips": 8,
  "data.future_contexts": 2,
  "data.futures_per_context": 4,
  "readout.steps": 6,
  "forecaster.steps": 6,
  "forecaster.vae.steps": 6,
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

# All clips of a split.
_ALL = 2**31

PAPER: Mapping[str, Mapping[str, Any]] = {
  "pixels": {
    "data.name": "scannet",
    "data.labels": (),
    "data.random_flip": True,
    "data.window_stride": 5,
    "data.train_clips": _ALL,
    "data.eval_clips": _ALL,
  },
  "depth": {
    "data.name": "scannet",
    "data.labels": ("depth",),
    "data.random_flip": True,
    "data.window_stride": 5,
    "data.train_clips": _ALL,
    "data.eval_clips": _ALL,
  },
  "points": {
    "data.name": "movi",
    "data.eval_name": "perception_test",
    "data.num_points": 64,
    "data.random_crop": True,
    "data.train_clips": _ALL,
    "data.eval_clips": _ALL,
  },
  "boxes": {
    "data.name": "waymo",
    "data.num_boxes": 25,
    "data.random_flip": True,
    "data.window_stride": 3,
    "data.train_clips": _ALL,
    "data.eval_clips": _ALL,
  },
}

# The paper's models: the backbone, its differences, and the tiny one of its
# family, on which `:smoke` runs.
_LONG = {"eval.batch_size": 2}  # a clip is 4,096 tokens
_SIGLIP = {
  "train.batch_size": 4,
  "eval.batch_size": 1,
  "readout.steps": 160_000,
  "forecaster.steps": 160_000,
}
_NATIVE = {
  "forecasters": (),
  "baselines": (
    "native",
    "persistence_latent",
    "persistence_output",
    "constant_velocity",
    "climatology",
    "oracle_future",
  ),
}
MODELS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
  "dinov2": ("dinov2_l", "dinov2_tiny", _LONG),
  "siglip": ("siglip_g_opt", "siglip_tiny", _SIGLIP),
  "videoprism": ("videoprism_g", "videoprism_tiny", _LONG),
  "vjepa": ("vjepa_l", "vjepa_tiny", {}),
  "videomae": ("videomae_h", "videomae_tiny", {}),
  "videomae_v2": ("videomaev2_g", "videomaev2_tiny", {}),
  "4ds_h": ("4ds_h", "4ds_tiny", {}),
  "4ds_e": ("4ds_e", "4ds_tiny", {}),
  "walt": ("walt_419m", "walt_tiny", {}),
  "n_walt": ("walt_419m", "walt_tiny", _NATIVE),
  "next_vid": ("next_vid_l", "next_vid_tiny", {}),
}
