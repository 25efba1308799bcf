"""Readouts that another run has trained, in place of own ones.

A readout is trained on the latents of observed clips and knows no forecaster:
runs that differ in the forecaster alone may share one, which saves its training
and leaves less to chance between them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from forecasting import trainees
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
# Fields that nothing read, which configs of older runs still hold.
_REMOVED = ("readout.num_points", "readout.num_boxes")


def problems(config: ConfigDict) -> Iterator[str]:
  """Says why a run cannot take the readouts of `config.readout.from_run`."""
  if not config.readout.from_run:
    return
  if not config.forecasters:
    yield "forecasters is empty: readout.from_run leaves nothing to train"
  path = Path(config.readout.from_run) / "config.json"
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
  own, other = flat(config.to_dict()), flat(other)
  for name in sorted(own.keys() | other.keys()):
    if _matters(name) and own.get(name) != other.get(name):
      yield (
        f"readout.from_run: {name} = {own.get(name)!r}, but the readouts in"
        f" {path.parent} were trained with {other.get(name)!r}"
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


def _matters(name: str) -> bool:
  if name == "readout.from_run" or name in _REMOVED:
    return False
  return any(f"{name}.".startswith(f"{field}.") for field in _FIELDS)


def flat(value: Any, name: str = "") -> dict[str, Any]:
  """Returns dotted field to value, tuples as lists, as JSON has them.

  Args:
    value: a config as nested dicts.
    name: of the value, dotted.
  """
  if not isinstance(value, dict):
    return {name: list(value) if isinstance(value, tuple) else value}
  found = {}
  for key, item in value.items():
    found |= flat(item, f"{name}.{key}" if name else key)
  return found
