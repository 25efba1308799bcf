"""Whether a workdir holds the run that a config describes.

A checkpoint knows names and shapes of its arrays, not what they were trained
on: with another seed, another scale of the targets or other weights of the
backbone it would be resumed, and scored, as if nothing had changed. So a run
keeps its config beside its checkpoints, and what identifies the latents it is
trained on, and both are compared before it goes on.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from forecasting.latents import manifest as manifest_lib
from forecasting.latents.store import LatentStore
from forecasting.training import checkpoint

CONFIG = "config.json"
TRAINED_ON = "trained_on.json"
# Fields, and sections, that may differ between training a run and resuming or
# scoring it.
MAY_CHANGE = (
  # How it is called. What is trained is compared with the checkpoint itself.
  *("name", "compiled", "tasks", "forecasters", "baselines"),
  # Folders move; TRAINED_ON says whether they hold the same.
  *("backbone.checkpoint", "data.path", "data.root", "latents.path"),
  *("latents.root", "readout.from_run"),
  # What is scored, and how.
  *("eval", "data.eval_name", "data.eval_path", "data.eval_clips"),
  *("data.eval_windows", "data.future_contexts", "data.futures_per_context"),
  *("data.horizon_frames", "data.horizon_clips"),
  # Where it cuts the training clips too, it is part of their fingerprint.
  "data.eval_fraction",
  # How samples are drawn from what is trained; see also `_of_training`.
  *("forecaster.sampler", "forecaster.horizon", "forecaster.shortcut.steps"),
  *("forecaster.ddpm.steps", "forecaster.ddpm.sampler", "forecaster.ddpm.eta"),
  *("forecaster.normalize.project_ln", "forecaster.ridge_latent"),
  # Machinery, which changes rounding at most.
  *("data.workers", "latents.extract_if_missing", "latents.batch_size"),
  *("latents.clips_per_shard", "forecaster.model.scan"),
  "forecaster.model.remat",
  # A run may be trained for longer; the loop refuses to do so for less.
  *("readout.steps", "forecaster.steps"),
)
# The only field of `config.train` that a result depends on.
_OF_LOOP = "train.batch_size"
# Of a manifest, how its records are spread over files and who wrote them.
_NOT_IDENTITY = ("shards", "clips_per_shard", "skipped", "created_by")


def flat(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
  """Returns dotted field to value, both as JSON has them."""
  if isinstance(config, ConfigDict):
    config = config.to_dict()
  return _flat(_plain(config), "")


def _plain(value: Any) -> Any:
  """Returns a value as JSON has it, tuples as lists."""
  return json.loads(json.dumps(value))


def _flat(value: Any, name: str) -> dict[str, Any]:
  if not isinstance(value, dict):
    return {name: value}
  fields = {}
  for key, item in value.items():
    fields |= _flat(item, f"{name}.{key}" if name else key)
  return fields


def is_within(field: str, sections: Iterable[str]) -> bool:
  """Returns whether a dotted field is one of some fields or sections."""
  return any(f"{field}.".startswith(f"{section}.") for section in sections)


def differences(
  stored: Mapping[str, Any],
  wanted: Mapping[str, Any],
  matters: Callable[[str], bool] = lambda field: True,
) -> dict[str, tuple[Any, Any]]:
  """Compares what a run was trained with to what is asked for.

  Args:
    stored: field to value, as read from the run.
    wanted: field to value. Fields that only one side has are not compared: an
      older version did not know them and did what is now their default.
    matters: whether a field is compared.

  Returns:
    Field to stored and wanted value, where they differ.
  """
  return {
    field: (stored[field], wanted[field])
    for field in sorted(stored.keys() & wanted.keys())
    if matters(field) and stored[field] != wanted[field]
  }


def check_config(config: ConfigDict, workdir: Path) -> None:
  """Refuses to go on with a run that was trained with another config.

  Writes nothing. A workdir without checkpoints, or one of an older version
  without a config, is not compared.

  Args:
    config: of the run as it is wanted.
    workdir: of the run.

  Raises:
    ValueError: names every field that differs.
  """
  if not checkpoint.has_checkpoints(workdir):
    return
  stored = _read(workdir / CONFIG)
  if stored is None:
    return
  needed = _of_training(config)

  def matters(field: str) -> bool:
    if field in needed:
      return True
    return not is_within(field, ("train", *MAY_CHANGE))

  differing = differences(flat(stored), flat(config), matters)
  if differing:
    raise ValueError(
      f"--workdir={workdir} holds checkpoints of a run with another config:\n"
      f"{_listing(differing)}\nGive these fields their old values, as in"
      f" {_flag(differing)}, or choose another --workdir."
    )


def save_config(config: ConfigDict, workdir: Path) -> None:
  """Writes the whole config beside the results, as JSON."""
  _write(workdir / CONFIG, config.to_dict())


def identity(store: LatentStore) -> dict[str, Any]:
  """Returns what determines the latents of a store, by field of its manifest.

  That is all but how they are spread over files; and as many clips as are used.
  """
  fields = dataclasses.asdict(store.manifest) | {"num_clips": len(store)}
  return _plain({k: v for k, v in fields.items() if k not in _NOT_IDENTITY})


def check_latents(found: Mapping[str, Any], workdir: Path) -> None:
  """Refuses to go on with a run that was trained on other latents.

  Writes nothing. Runs of older versions did not say what they were trained on
  and are not compared.

  Args:
    found: of `identity`, or some fields of it.
    workdir: of the run.

  Raises:
    ValueError: names every field that differs.
  """
  if not checkpoint.has_checkpoints(workdir):
    return
  differing = differences(trained_on(workdir), found)
  if differing:
    raise ValueError(
      f"--workdir={workdir} holds checkpoints of a run that was trained on"
      f" other latents:\n{_listing(differing)}\nGo back to the weights and the"
      " data it was trained with (backbone.checkpoint, data.path,"
      " latents.path), or choose another --workdir."
    )


def trained_on(workdir: Path) -> dict[str, Any]:
  """Returns `identity` of a run's latents; nothing if an older run has none.

  Raises:
    ValueError: the file cannot be read.
  """
  return _read(workdir / TRAINED_ON) or {}


def save_latents(store: LatentStore, workdir: Path) -> None:
  """Writes, in the first process, what a run is going to be trained on.

  A run that has checkpoints keeps what it said: those of an older version say
  nothing, and nobody knows what they were trained on.

  Args:
    store: of the training split.
    workdir: of the run.
  """
  if jax.process_index() == 0 and not checkpoint.has_checkpoints(workdir):
    workdir.mkdir(parents=True, exist_ok=True)
    _write(workdir / TRAINED_ON, identity(store))


def _of_training(config: ConfigDict) -> set[str]:
  """Returns what else training depends on, of sections that may change."""
  needed = {_OF_LOOP}
  forecaster = config.forecaster
  is_even = "flow" in config.forecasters and forecaster.flow.even_share
  # Noise levels of training are spread between the sampler's ends.
  if is_even or "shortcut" in config.forecasters:
    needed |= {"forecaster.sampler.t_min", "forecaster.sampler.t_max"}
  return needed


def _listing(differing: Mapping[str, tuple[Any, Any]]) -> str:
  return "\n".join(
    f"  {field}: trained with {old!r}, asked for {new!r}"
    for field, (old, new) in differing.items()
  )


def _flag(differing: Mapping[str, tuple[Any, Any]]) -> str:
  field, (old, _) = next(iter(differing.items()))
  return f"--config.{field}={old}"


def _read(path: Path) -> dict[str, Any] | None:
  """Reads a file of a run, None if there is none."""
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    raise ValueError(
      f"cannot read {path} ({error}), which says what the checkpoints beside it"
      " were trained with: restore it, or choose another --workdir"
    ) from error


def _write(path: Path, fields: Mapping[str, Any]) -> None:
  text = json.dumps(fields, indent=1, sort_keys=True) + "\n"
  manifest_lib.write_atomically(path, text.encode())
