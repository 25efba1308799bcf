"""Checks of a config before anything expensive starts.

All problems are collected and raised at once: the field, its value, what is
allowed, and the nearest valid name.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from forecasting import config as config_lib
from forecasting import readouts_from, trial_build, value_ranges
from forecasting.backbones import encode, zoo
from forecasting.forecaster import objective, registry
from forecasting.frames import pipeline

FORECASTERS = registry.LEARNT
BASELINES = (
  *registry.TRAINING_FREE,
  "persistence_output",
  "constant_velocity",
  "native",
  "oracle_future",
)


def validate(config: ConfigDict) -> None:
  """Raises one ValueError that lists every problem of `config`."""
  problems = [*_name_problems(config), *value_ranges.problems(config)]
  if not problems:
    problems = [*_cross_problems(config)]
    # Where fields contradict each other, latents have no shape to build on.
    problems += [] if problems else trial_build.problems(config)
    problems += [*_missing_files(config), *readouts_from.problems(config)]
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
        hint = value_ranges.nearest(value, known)
        yield f"{field}: unknown name {value!r}; {hint}"
    if len(set(values)) != len(values):
      yield f"{field} = {values}: each name at most once"
  if not config.tasks:
    yield "tasks is empty: name at least one"
  try:
    zoo.get_spec(config.backbone.name)
  except ValueError as error:
    yield f"backbone.name: {error}"


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
  for task in config.tasks:
    heads = config.readout.heads[task]
    if config.readout.width % heads:
      yield (
        f"readout.width = {config.readout.width} is no multiple of "
        f"readout.heads.{task} = {heads}"
      )


def _horizon_problems(config: ConfigDict) -> Iterator[str]:
  data, forecaster = config.data, config.forecaster
  try:
    objective.check_context_level(
      forecaster.horizon.context_level, forecaster.flow.context_noise
    )
  except ValueError as error:
    yield str(error)
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
  try:
    encode.with_options(spec, config.backbone.options)
  except ValueError as error:
    yield str(error)
  if "native" in config.baselines and spec.family != "walt":
    yield (
      f"baselines: 'native' is a forecast of the backbone's own, which "
      f"{spec.name} does not make; walt_419m does"
    )
