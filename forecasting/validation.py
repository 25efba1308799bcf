"""Checks of a config before anything expensive starts.

All problems are collected and raised at once: the field, its value, what is
allowed, and the nearest valid name.
"""

import difflib
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ml_collections import ConfigDict

from forecasting import config as config_lib
from forecasting import readouts_from
from forecasting.backbones import encode, zoo
from forecasting.forecaster import (
  architecture,
  one_call,
  process,
  registry,
  transforms,
)
from forecasting.frames import pipeline
from forecasting.readouts import positions

DATA_NAMES = ("mujoco_scenes", *pipeline.READERS)
FORECASTERS = registry.LEARNT
BASELINES = (
  *registry.TRAINING_FREE,
  "persistence_output",
  "constant_velocity",
  "native",
  "oracle_future",
)
_CHOICES = {
  "data.name": DATA_NAMES,
  "data.eval_name": (None, *DATA_NAMES),
  "data.rays": (1, 2),
  "data.geometry": ("crop", "squeeze"),
  "backbone.context_mode": (
    "default",
    "crop_pos",
    "pad_last",
    "leaky_full_clip",
  ),
  "backbone.dtype": ("float32", "bfloat16"),
  "readout.positions": positions.MODES,
  "latents.dtype": ("bfloat16", "float32", "int8"),
  "forecaster.model.conditioning": architecture.CONDITIONINGS,
  "forecaster.model.attention": architecture.ATTENTIONS,
  "forecaster.masked.conditioning": architecture.CONDITIONINGS,
  "forecaster.masked.attention": architecture.ATTENTIONS,
  "forecaster.model.dtype": ("default", "float32", "bfloat16"),
  "forecaster.model.remat": ("default", *architecture.REMATS),
  "forecaster.model.scan": architecture.SCANS,
  "forecaster.normalize.stats": transforms.STATS,
  "forecaster.normalize.target_transform": transforms.TARGET_TRANSFORMS,
  "forecaster.horizon.mode": registry.HORIZON_MODES,
  "forecaster.flow.prediction": process.NETWORK_OUTPUTS,
  "forecaster.flow.loss_space": process.PREDICTIONS,
  "forecaster.ddpm.prediction": process.PREDICTIONS,
  "forecaster.ddpm.sampler": ("ddim", "ancestral"),
  "forecaster.sampler.name": (
    "euler",
    "heun",
    "dpmpp_2m",
    "ddim",
    "ancestral",
    "sde",
  ),
  "forecaster.sampler.grid": ("uniform", "shifted", "logsnr", "edm"),
  "forecaster.regression.loss": ("mse", "smooth_l1"),
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
  "data.num_points",
  "data.num_boxes",
  "data.fps",
  "data.window_stride",
  "latents.batch_size",
  "latents.clips_per_shard",
  "readout.width",
  "readout.certain_within",
  "readout.steps",
  "readout.optimizer.learning_rate",
  "forecaster.steps",
  "forecaster.optimizer.learning_rate",
  "forecaster.model.width",
  "forecaster.model.depth",
  "forecaster.model.heads",
  "forecaster.model.patch",
  "forecaster.sampler.steps",
  "forecaster.masked.beta",
  "forecaster.ensemble",
  "forecaster.horizon.steps_per_slot",
  "forecaster.energy.noise_dim",
  "forecaster.energy.members",
  "forecaster.best_of_many.noise_dim",
  "forecaster.best_of_many.members",
  "forecaster.shortcut.steps",
  "forecaster.shortcut.finest",
  "forecaster.vae.width",
  "forecaster.vae.steps",
  "forecaster.vae.kl_weight",
  "forecaster.vae.optimizer.learning_rate",
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
_SHARES = (
  "data.scenes.turn_probability",
  "data.scenes.kick_probability",
  "forecaster.flow.even_share",
  "forecaster.flow.rolling",
  "forecaster.flow.context_dropout",
  "forecaster.flow.context_noise",
)


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns `known` as text, led by the name most like `name` if any is."""
  known = [str(item) for item in known]
  close = difflib.get_close_matches(str(name), known, n=1)
  hint = f"did you mean {close[0]!r}? " if close else ""
  return f"{hint}known: {', '.join(known)}"


def validate(config: ConfigDict) -> None:
  """Raises one ValueError that lists every problem of `config`."""
  problems = [*_name_problems(config), *_value_problems(config)]
  if not problems:
    problems = [
      *_cross_problems(config),
      *_missing_files(config),
      *readouts_from.problems(config),
    ]
  if problems:
    listing = "\n".join(f"  {problem}" for problem in problems)
    raise ValueError(f"the config cannot run:\n{listing}")


def check_workdir(workdir: Path) -> None:
  """Raises OSError unless `workdir` can be made and written."""
  probe = workdir / f".write_test_{os.getpid()}"
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    probe.write_bytes(b"0" * 4096)
    probe.unlink()
  except OSError as error:
    raise OSError(
      f"workdir {workdir} is not writable ({error}): choose another with "
      "--workdir, or free space or permissions there"
    ) from error


def _get(config: ConfigDict, path: str):
  for key in path.split("."):
    config = config[key]
  return config


def _name_problems(config: ConfigDict) -> Iterator[str]:
  for field, known in (
    ("tasks", config_lib.TASK_NAMES),
    ("forecasters", FORECASTERS),
    ("baselines", BASELINES),
  ):
    values = config[field]
    if isinstance(values, str):
      yield f"{field} = {values!r}: expected a tuple, as in ('{values}',)"
      continue
    for value in values:
      if value not in known:
        yield f"{field}: unknown name {value!r}; {nearest(value, known)}"
    if len(set(values)) != len(values):
      yield f"{field} = {values}: each name at most once"
  if not config.tasks:
    yield "tasks is empty: name at least one"
  try:
    zoo.get_spec(config.backbone.name)
  except ValueError as error:
    yield f"backbone.name: {error}"
  for field, known in _CHOICES.items():
    value = _get(config, field)
    if value not in known:
      yield f"{field} = {value!r}; {nearest(value, known)}"


def _value_problems(config: ConfigDict) -> Iterator[str]:
  for field in _POSITIVE:
    value = _get(config, field)
    if not (value > 0 and math.isfinite(value)):
      yield f"{field} = {value!r}: expected a positive number"
  for field in _SHARES:
    value = _get(config, field)
    if not 0 <= value <= 1:
      yield f"{field} = {value!r}: expected a number from 0 to 1"
  noise = config.readout.noise
  if not 0 <= noise < math.inf:
    yield f"readout.noise = {noise!r}: expected 0 or a positive number"
  layer = config.backbone.layer
  if layer not in ("default", "final"):
    try:
      is_depth = 0 < float(layer) <= 1
    except ValueError:
      is_depth = False
    if not is_depth:
      yield (
        f"backbone.layer = {layer!r}: expected 'default', 'final' or a "
        "relative depth in (0, 1]"
      )
  for name in ("energy", "best_of_many"):
    if config.forecaster[name].members == 1:
      yield (
        f"forecaster.{name}.members = 1: expected at least 2, as the loss "
        "compares them"
      )
  try:
    registry.compression(config.forecaster.compress)
  except ValueError as error:
    yield str(error)
  shift = config.forecaster.flow.shift
  if shift not in ("auto_slot", "auto_full") and not _is_positive(shift):
    yield (
      f"forecaster.flow.shift = {shift!r}: expected 'auto_slot', "
      "'auto_full' or a positive number"
    )


def _is_positive(text: str | float) -> bool:
  """Whether a number, or one in words, is positive and finite."""
  try:
    return 0 < float(text) < math.inf
  except ValueError:
    return False


def _missing_files(config: ConfigDict) -> Iterator[str]:
  """Yields what is to be downloaded, or is not where the config says."""
  if config.latents.path is not None:
    for split in ("train", "eval"):
      folder = Path(config.latents.path) / split
      if not folder.is_dir():
        yield (
          f"latents.path: no store {folder}; forecasting/latents/store.py says "
          "how to write one"
        )
    return
  data = config.data
  if not config.backbone.random_init:
    try:
      encode.find_checkpoint(
        zoo.get_spec(config.backbone.name), config.backbone.checkpoint
      )
    except FileNotFoundError as error:
      yield f"backbone.checkpoint: {error}"
  sources = [("path", data.name, data.path)]
  if data.eval_name:
    sources.append(("eval_path", data.eval_name, data.eval_path))
  for field, name, path in sources:
    if name == "mujoco_scenes":
      continue
    where = pipeline.DOWNLOADS[name]
    if path is None:
      yield f"data.{field} is not set: name the folder of {where}"
    elif not Path(path).is_dir():
      yield f"data.{field} = {path!r}: no such folder; expected {where}"


def train_problems(train: ConfigDict) -> Iterator[str]:
  """Says which numbers of `config.train` do not divide as they should."""
  for whole, part in (
    ("batch_size", "accumulate"),
    ("keep_every", "checkpoint_every"),
  ):
    if train[whole] % train[part]:
      yield (
        f"train.{whole} = {train[whole]} is no multiple of "
        f"train.{part} = {train[part]}"
      )


def _cross_problems(config: ConfigDict) -> Iterator[str]:
  if config.latents.path is None:
    yield from _backbone_problems(config)
  if config.data.name == "videos" and tuple(config.tasks) != ("pixels",):
    yield (
      f"tasks = {config.tasks}: plain videos carry no labels, so "
      "tasks must be ('pixels',)"
    )
  yield from train_problems(config.train)
  yield from _horizon_problems(config)
  model = config.forecaster.model.to_dict()
  try:
    # A head that is as wide as it needs to be fits.
    wide = max(model["head_width"], 0)
    architecture.DenoiserConfig(**model | {"head_width": wide})
  except ValueError as error:
    yield str(error)
  for task in config.tasks:
    heads = config.readout.heads[task]
    if config.readout.width % heads:
      yield (
        f"readout.width = {config.readout.width} is no multiple of "
        f"readout.heads.{task} = {heads}"
      )


def _horizon_problems(config: ConfigDict) -> Iterator[str]:
  data, flow = config.data, config.forecaster.flow
  level = config.forecaster.horizon.context_level
  if not 0 <= level <= flow.context_noise:
    yield (
      f"forecaster.horizon.context_level = {level}: expected 0 to "
      f"forecaster.flow.context_noise = {flow.context_noise}, with which the "
      "network is trained"
    )
  if not data.horizon_frames:
    return
  if data.name != "mujoco_scenes" or config.latents.path is not None:
    yield "data.horizon_frames: only the embedded data has longer clips"
  added = data.num_frames - data.num_context
  beyond = data.horizon_frames - data.num_context
  if added > 0 and (beyond <= added or beyond % added):
    yield (
      f"data.horizon_frames = {data.horizon_frames}: expected data.num_context "
      f"= {data.num_context} plus 2 or more times {added} frames, as in "
      f"{data.num_context + 2 * added}"
    )


def _backbone_problems(config: ConfigDict) -> Iterator[str]:
  data, spec = config.data, zoo.get_spec(config.backbone.name)
  tubelet = spec.tubelet
  if data.num_context % tubelet or data.num_frames % tubelet:
    yield (
      f"data.num_context = {data.num_context} and data.num_frames = "
      f"{data.num_frames} must be multiples of the backbone's tubelet {tubelet}"
    )
  if data.num_context >= data.num_frames:
    yield (
      f"data.num_context = {data.num_context} leaves no future of "
      f"data.num_frames = {data.num_frames}"
    )
  if data.num_frames != spec.num_frames:
    yield (
      f"data.num_frames = {data.num_frames}: {spec.name} takes "
      f"{spec.num_frames}"
    )
  if data.size != spec.resolution:
    yield f"data.size = {data.size}: {spec.name} takes {spec.resolution}"
  patch = config.forecaster.model.patch
  if any(side % patch for side in spec.grid[1:]):
    yield (
      f"forecaster.model.patch = {patch} does not divide the latent grid "
      f"{spec.grid[1:]}"
    )
  try:
    encode.with_options(spec, config.backbone.options)
  except ValueError as error:
    yield str(error)
  if "native" in config.baselines and spec.family != "walt":
    yield (
      f"baselines: 'native' is a forecast of the backbone's own, which "
      f"{spec.name} does not make; walt_419m does"
    )
