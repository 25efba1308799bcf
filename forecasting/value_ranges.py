"""What every single field of a config may be: words, numbers, ranges.

What fields have to be together is in `validation.py` and `trial_build.py`.
"""

import difflib
import math
from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from forecasting.backbones import encode
from forecasting.forecaster import (
  architecture,
  ddpm,
  one_call,
  process,
  registry,
  regression,
  sampler,
  shortcut,
  transforms,
)
from forecasting.frames import pipeline
from forecasting.latents import manifest
from forecasting.readouts import positions

DATA_NAMES = ("mujoco_scenes", *pipeline.READERS)
_CHOICES = {
  "data.name": DATA_NAMES,
  "data.eval_name": (None, *DATA_NAMES),
  "data.rays": (1, 2),
  "data.geometry": ("crop", "squeeze"),
  "backbone.context_mode": ("default", *encode.CONTEXT_MODES),
  "backbone.dtype": tuple(encode.DTYPES),
  "readout.positions": positions.MODES,
  "latents.dtype": manifest.DTYPES,
  "forecaster.model.conditioning": architecture.CONDITIONINGS,
  "forecaster.model.attention": architecture.ATTENTIONS,
  "forecaster.masked.conditioning": architecture.CONDITIONINGS,
  "forecaster.masked.attention": architecture.ATTENTIONS,
  "forecaster.model.dtype": architecture.DTYPES,
  "forecaster.model.remat": ("default", *architecture.REMATS),
  "forecaster.model.scan": architecture.SCANS,
  "forecaster.normalize.stats": transforms.STATS,
  "forecaster.normalize.target_transform": transforms.TARGET_TRANSFORMS,
  "forecaster.horizon.mode": registry.HORIZON_MODES,
  "forecaster.flow.prediction": process.NETWORK_OUTPUTS,
  "forecaster.flow.loss_space": process.PREDICTIONS,
  "forecaster.ddpm.prediction": process.PREDICTIONS,
  "forecaster.ddpm.sampler": ddpm.SAMPLERS,
  "forecaster.sampler.name": sampler.SAMPLERS,
  "forecaster.sampler.grid": sampler.GRIDS,
  "forecaster.regression.loss": regression.LOSSES,
  "forecaster.energy.norm": tuple(one_call.NORMS),
  "forecaster.best_of_many.norm": tuple(one_call.NORMS),
}
_POSITIVE = (
  "data.scenes.interval",
  "data.scenes.camera_speed",
  "data.size",
  "data.num_frames",
  "data.num_context",
  "data.train_clips",
  "data.eval_clips",
  "data.futures_per_context",
  "data.horizon_clips",
  "data.num_points",
  "data.num_boxes",
  "data.fps",
  "data.window_stride",
  "data.stride",
  "data.eval_windows",
  "data.starts_per_video",
  "latents.batch_size",
  "latents.clips_per_shard",
  "readout.width",
  "readout.heads.pixels",
  "readout.heads.depth",
  "readout.heads.points",
  "readout.heads.boxes",
  "readout.query_hidden",
  "readout.output_scale",
  "readout.certain_within",
  "readout.steps",
  "forecaster.steps",
  "forecaster.model.width",
  "forecaster.model.depth",
  "forecaster.model.heads",
  "forecaster.model.patch",
  "forecaster.flow.noise_multiplicity",
  "forecaster.ddpm.levels",
  "forecaster.sampler.steps",
  "forecaster.sampler.shift",
  "forecaster.sampler.rho",
  "forecaster.sampler.chunk",
  "forecaster.masked.beta",
  "forecaster.ensemble",
  "forecaster.horizon.steps_per_slot",
  "forecaster.energy.noise_dim",
  "forecaster.best_of_many.noise_dim",
  "forecaster.vae.width",
  "forecaster.vae.steps",
  "forecaster.vae.kl_weight",
  "forecaster.ridge_latent.penalty",
  "train.batch_size",
  "train.log_every",
  "train.checkpoint_every",
  "train.keep",
  "train.fsdp",
  "train.accumulate",
  "eval.num_samples",
  "eval.batch_size",
  "eval.bank_clips",
)
_NOT_NEGATIVE = (
  "data.future_contexts",
  "data.horizon_frames",
  "data.workers",
  "data.min_joint_frames",
  "readout.noise",
  "readout.train_queries",
  "readout.train_tracks",
  "forecaster.model.type_scale",
  "forecaster.model.head_depth",
  "forecaster.sampler.churn",
  "forecaster.sampler.noise_inflation",
  "forecaster.shortcut.weight",
  "train.keep_every",
  "train.profile_steps",
  "eval.num_panels",
  "data.held_out_clips",
  # Without intervals.
  "eval.bootstrap",
  "eval.bootstrap_frechet",
  "eval.dressing_clips",
  "eval.spread_clips",
)
# From 0 to 1, both included.
_SHARES = (
  "data.scenes.turn_probability",
  "data.scenes.kick_probability",
  "forecaster.flow.even_share",
  "forecaster.flow.rolling",
  "forecaster.flow.context_dropout",
  "forecaster.flow.context_noise",
  "forecaster.sampler.eta",
  "forecaster.ddpm.eta",
)
_TRAINED = ("readout", "forecaster", "forecaster.vae")


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns `known` as text, led by the name most like `name` if any is."""
  known = [str(item) for item in known]
  close = difflib.get_close_matches(str(name), known, n=1)
  hint = f"did you mean {close[0]!r}? " if close else ""
  return f"{hint}known: {', '.join(known)}"


def problems(config: ConfigDict) -> Iterator[str]:
  """Says which fields have a value that no other field could make right."""
  for field, known in _CHOICES.items():
    value = _get(config, field)
    if value not in known:
      yield f"{field} = {value!r}; {nearest(value, known)}"
  yield from _number_problems(config)
  yield from _layer_problems(config)
  yield from _forecaster_problems(config.forecaster)


def _get(config: ConfigDict, path: str) -> Any:
  for key in path.split("."):
    config = config[key]
  return config


def _number_problems(config: ConfigDict) -> Iterator[str]:
  positive, not_negative = list(_POSITIVE), list(_NOT_NEGATIVE)
  halves_open = []
  for part in _TRAINED:
    halves_open += [f"{part}.ema_decay"]
    halves_open += [f"{part}.optimizer.{name}" for name in ("b1", "b2")]
    positive += [f"{part}.optimizer.learning_rate"]
    not_negative += [
      f"{part}.optimizer.{name}"
      for name in ("warmup_steps", "end_factor", "weight_decay", "clip_norm")
    ]
  for fields, is_right, expected in (
    (positive, lambda x: 0 < x < math.inf, "a positive number"),
    (not_negative, lambda x: 0 <= x < math.inf, "0 or a positive number"),
    (_SHARES, lambda x: 0 <= x <= 1, "a number from 0 to 1"),
    (halves_open, lambda x: 0 <= x < 1, "a number from 0 to below 1"),
    (
      ["data.eval_fraction"],
      lambda x: 0 < x < 1,
      "a number between 0 and 1, neither of them",
    ),
  ):
    for field in fields:
      value = _get(config, field)
      if not is_right(value):
        yield f"{field} = {value!r}: expected {expected}"
  most = config.data.max_recordings
  if most is not None and most < 1:
    yield f"data.max_recordings = {most}: expected None or a positive number"
  patch = config.readout.patch
  if len(patch) != 3 or min(patch) < 1:
    yield (
      f"readout.patch = {tuple(patch)}: expected three positive numbers, of"
      " frames, rows and columns"
    )


def _layer_problems(config: ConfigDict) -> Iterator[str]:
  layer = config.backbone.layer
  if layer not in ("default", "final") and not _is_positive(layer, 1.0):
    yield (
      f"backbone.layer = {layer!r}: expected 'default', 'final' or a "
      "relative depth in (0, 1]"
    )


def _forecaster_problems(cfg: ConfigDict) -> Iterator[str]:
  """Says what is wrong with `config.forecaster`."""
  for name in ("energy", "best_of_many"):
    if cfg[name].members < 2:
      yield (
        f"forecaster.{name}.members = {cfg[name].members}: expected at least"
        " 2, as the loss compares them"
      )
  try:
    registry.compression(cfg.compress)
  except ValueError as error:
    yield str(error)
  shift = cfg.flow.shift
  if shift not in ("auto_slot", "auto_full") and not _is_positive(shift):
    yield (
      f"forecaster.flow.shift = {shift!r}: expected 'auto_slot', "
      "'auto_full' or a positive number"
    )
  if cfg.model.head_width < -1:
    yield (
      f"forecaster.model.head_width = {cfg.model.head_width}: expected -1, 0"
      " or a positive number"
    )
  low, high = cfg.sampler.t_min, cfg.sampler.t_max
  if not 0 < low < high < 1:
    yield (
      f"forecaster.sampler.t_min = {low} and forecaster.sampler.t_max = {high}:"
      " expected 0 < t_min < t_max < 1"
    )
  if not 1 <= cfg.ddpm.steps <= cfg.ddpm.levels:
    yield (
      f"forecaster.ddpm.steps = {cfg.ddpm.steps}: expected 1 to"
      f" forecaster.ddpm.levels = {cfg.ddpm.levels}"
    )
  yield from _shortcut_problems(cfg.shortcut)


def _shortcut_problems(cfg: ConfigDict) -> Iterator[str]:
  try:
    shortcut.num_lengths(cfg.finest)
    shortcut.check_steps(cfg.steps, cfg.finest)
  except ValueError as error:
    yield str(error)


def _is_positive(text: str | float, most: float = math.inf) -> bool:
  """Whether a number, or one in words, is positive, finite and not over."""
  try:
    number = float(text)
  except ValueError:
    return False
  return 0 < number < math.inf and number <= most
