"""Readouts that another run has trained, in place of own ones.

A readout is trained on the latents of observed clips and knows no forecaster:
runs that differ in the forecaster alone may share one, which saves its training
and leaves less to chance between them.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from forecasting import same_run, trainees
from forecasting.latents.store import LatentStore
from forecasting.shapes import Params
from forecasting.training import checkpoint

# What a readout depends on, beside the tasks.
_FIELDS = (
  "backbone",
  "latents.path",
  "readout",
  "data.size",
  "data.num_frames",
  "data.num_context",
)
# Of a manifest, what makes latents alike of whatever clips.
_LATENTS = ("backbone", "weights_digest", "layer", "context_mode")


def problems(config: ConfigDict) -> Iterator[str]:
  """Says why a run cannot take the readouts of `config.readout.from_run`."""
  if not config.readout.from_run:
    return
  if not config.forecasters:
    yield "forecasters is empty: readout.from_run leaves nothing to train"
  path = Path(config.readout.from_run) / same_run.CONFIG
  try:
    other = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    yield (
      f"readout.from_run: cannot read {path} ({error}); name the --workdir of a"
      " run that has trained the readouts"
    )
    return
  if missing := sorted(set(config.tasks) - set(other.get("tasks", ()))):
    yield f"readout.from_run: {path.parent} has no readouts of {missing}"
  differing = same_run.differences(
    same_run.flat(other), same_run.flat(config), _matters
  )
  for name, (theirs, own) in differing.items():
    yield (
      f"readout.from_run: {name} = {own!r}, but the readouts in"
      f" {path.parent} were trained with {theirs!r}"
    )


def load(config: ConfigDict) -> dict[str, Params]:
  """Reads the readouts of another run.

  Args:
    config: validated.

  Returns:
    Trainee name to averaged parameters; nothing if the run trains its own.

  Raises:
    FileNotFoundError: the other run has no checkpoint.
    ValueError: its readouts are still in training.
  """
  if not config.readout.from_run:
    return {}
  workdir = Path(config.readout.from_run)
  names = [trainees.readout_name(task) for task in config.tasks]
  step, params = checkpoint.restore_ema(workdir, names)
  if step < config.readout.steps:
    raise ValueError(
      f"readout.from_run: the readouts in {workdir} were trained for {step} of"
      f" {config.readout.steps} steps; let that run go on to its end first"
    )
  return params


def check_latents(config: ConfigDict, store: LatentStore) -> None:
  """Refuses readouts that were trained on latents of another kind.

  Runs of older versions did not say what they were trained on.

  Args:
    config: of the run that takes the readouts.
    store: of its training split.

  Raises:
    ValueError: names every field that differs.
  """
  if not config.readout.from_run:
    return
  workdir = Path(config.readout.from_run)
  own = same_run.identity(store)
  differing = same_run.differences(
    same_run.trained_on(workdir), own, _LATENTS.__contains__
  )
  if differing:
    listing = "; ".join(
      f"{field} {theirs!r}, those of this run have {own!r}"
      for field, (theirs, own) in differing.items()
    )
    raise ValueError(
      f"readout.from_run: the readouts in {workdir} were trained on latents"
      f" with {listing}. Use the same backbone and weights"
      " (backbone.checkpoint, latents.path), or let this run train its own"
      " readouts with readout.from_run=''"
    )


def _matters(name: str) -> bool:
  return name != "readout.from_run" and same_run.is_within(name, _FIELDS)
