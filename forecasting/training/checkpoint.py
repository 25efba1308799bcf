"""Checkpoints: the state of all trainees and the data position, in one unit.

A checkpoint is `<workdir>/checkpoints/<step>/{state,data,checksums.json}`,
written beside and renamed when complete, so that a half-written one is never
seen. The marker `<workdir>/train_complete` is written after the last one.
"""

import atexit
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from forecasting.training import distributed, integrity
from forecasting.training.state import TrainState

FOLDER = "checkpoints"
UNREADABLE = "checkpoints_unreadable"
COMPLETE = "train_complete"


def _leaves(tree: Any) -> dict[str, Any]:
  """Returns dotted path to leaf, alike for structs and for their metadata."""
  return {
    jax.tree_util.keystr(path, simple=True, separator="."): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _refuse_mismatch(path: Path, stored: Any, expected: Any) -> None:
  """Raises ValueError if a readable checkpoint is of another model."""
  stored, expected = _leaves(stored), _leaves(expected)
  found = {k: tuple(v.shape) for k, v in stored.items()}
  wanted = {k: tuple(v.shape) for k, v in expected.items()}
  differing = [
    f"{k}: stored {found.get(k, 'nothing')}, expected "
    f"{wanted.get(k, 'nothing')}"
    for k in sorted(found.keys() | wanted.keys())
    if found.get(k) != wanted.get(k)
  ]
  if differing:
    raise ValueError(
      f"checkpoint {path} was written by another configuration "
      f"({len(differing)} arrays differ, first: {'; '.join(differing[:3])}). "
      "Continue with the configuration that wrote it, or use a new --workdir."
    )


class _DataPosition(grain.checkpoint.CheckpointHandler):
  """The data position: batches done, the same in every process.

  So a run may be resumed by another number of processes.
  """

  def restore(self, directory: Any, item: Any = None, args: Any = None) -> Any:
    """Sets the position of an iterator to that of any of the processes."""
    del item
    files = sorted(Path(directory).glob("process_*.json"))
    if not files:
      raise ValueError(f"no data position in {directory}")
    args.item.set_state(json.loads(files[0].read_text()))
    args.item.start_prefetch()
    return args.item


@ocp.args.register_with_handler(_DataPosition, for_save=True, for_restore=True)
@dataclasses.dataclass
class _Batches(ocp.args.CheckpointArgs):
  """The iterator whose position is saved or set."""

  item: grain.DatasetIterator


class Checkpoints:
  """Writes checkpoints in the background and restores the newest good one."""

  def __init__(self, workdir: Path, keep: int, keep_every: int = 0):
    """Opens the folder.

    Args:
      workdir: of the run.
      keep: how many of the newest checkpoints are kept.
      keep_every: those of steps that divide by it are kept too; 0: none.
    """
    self._path = workdir / FOLDER
    self._workdir = workdir
    self._saving = 0
    kept = [policies.LatestN(keep)]
    if keep_every:
      kept.append(policies.EveryNSteps(keep_every))
    self._manager = ocp.CheckpointManager(
      self._path.absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(kept),
        cleanup_tmp_directories=True,
        async_options=ocp.AsyncOptions(
          post_finalization_callback=self._write_checksums
        ),
      ),
      item_handlers={
        "state": ocp.PyTreeCheckpointHandler(),
        "data": _DataPosition(),
      },
    )

  def save(
    self,
    step: int,
    states: Mapping[str, TrainState],
    batches: grain.DatasetIterator,
    wait: bool = False,
  ) -> None:
    """Starts writing a checkpoint, unless this step is there already.

    Args:
      step: updates done.
      states: trainee name to state.
      batches: whose position belongs to the step.
      wait: whether to return only when it is on disk.

    Raises:
      OSError: this or the previous checkpoint could not be written.
    """
    if step not in self._manager.all_steps():
      args = ocp.args.Composite(
        state=ocp.args.PyTreeSave(dict(states)),
        data=_Batches(batches),
      )
      try:
        self._manager.wait_until_finished()
        self._saving = step
        self._manager.save(step, args=args, force=True)
      except Exception as error:
        raise self._unwritable(error) from error
    if wait:
      self.wait()

  def wait(self) -> None:
    """Returns when all checkpoints are on disk.

    Raises:
      OSError: one could not be written.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._unwritable(error) from error

  def restore(
    self,
    abstract: Mapping[str, TrainState],
    batches: grain.DatasetIterator,
  ) -> tuple[int, dict[str, TrainState]] | None:
    """Restores the newest readable checkpoint, the data position included.

    Unreadable newer ones are named in a warning and moved aside.

    Args:
      abstract: name to shapes, dtypes and shardings of each trainee's state.
      batches: iterator whose position is set.

    Returns:
      The step and the states; None if there is no checkpoint.

    Raises:
      ValueError: the checkpoint was written by another configuration.
      OSError: there are checkpoints, but none can be read.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    unreadable = []
    for step in steps:
      try:
        _refuse_damage(self._path / str(step))
        stored = self._manager.item_metadata(step)["state"].tree
      except Exception as error:
        unreadable.append((step, error))
        continue
      _refuse_mismatch(self._path / str(step), stored, dict(abstract))
      try:
        states = self._restore(step, abstract, batches)
      except Exception as error:
        unreadable.append((step, error))
        continue
      for bad, error in unreadable:
        self._move_aside(bad, step, error)
      return step, states
    if unreadable:
      raise _none_readable(self._path, unreadable)
    return None

  def close(self) -> None:
    """Waits for writing to end and frees the threads."""
    self._manager.close()

  def _restore(self, step, abstract, batches):
    abstract = dict(abstract)
    args = ocp.args.Composite(
      state=ocp.args.PyTreeRestore(
        abstract,
        restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
      ),
      data=_Batches(batches),
    )
    return self._manager.restore(step, args=args)["state"]

  def _move_aside(self, step, restored, error):
    aside = self._workdir / UNREADABLE / str(step)
    logging.warning(
      "checkpoint %s cannot be read (%s); moved to %s, continuing from step %d",
      self._path / str(step),
      _first_line(error),
      aside,
      restored,
    )
    if jax.process_index() == 0:
      aside.parent.mkdir(exist_ok=True)
      # One of an earlier attempt may lie there.
      shutil.rmtree(aside, ignore_errors=True)
      os.rename(self._path / str(step), aside)
    distributed.wait_for_all(f"checkpoint {step} is moved aside")
    self._manager.reload()

  def _write_checksums(self):
    """Adds checksums just before the folder gets its final name."""
    (folder,) = self._path.glob(f"{self._saving}.orbax-checkpoint-tmp*")
    integrity.write_checksums(folder)

  def _unwritable(self, error):
    # Orbax leaves writers waiting, which complain about the interpreter's end:
    # this error shall be the last words. Until then nothing is hidden.
    atexit.register(setattr, sys, "unraisablehook", lambda _: None)
    return OSError(
      f"cannot write a checkpoint in {self._path}: {_first_line(error)}. Free "
      "disk space or mend permissions and run again: it resumes from the "
      "newest complete checkpoint."
    )


def _refuse_damage(folder: Path) -> None:
  """Raises OSError, in all processes, if a file is not what was written."""
  damage = ""
  if jax.process_index() == 0:
    damage = integrity.find_damage(folder)
  if distributed.first_says(bool(damage)):
    raise OSError(damage or "its files have changed since they were written")


def has_checkpoints(workdir: Path) -> bool:
  """Returns whether a run has left complete checkpoints, readable or not."""
  return bool(_steps((workdir / FOLDER).absolute()))


def _steps(path: Path) -> list[int]:
  """Returns the steps of the complete checkpoints in a folder."""
  return ocp.utils.checkpoint_steps(path) if path.is_dir() else []


def restore_ema(
  workdir: Path, names: Iterable[str] | None = None
) -> tuple[int, dict[str, Any]]:
  """Reads averaged parameters, and nothing else, of the newest checkpoint.

  Args:
    workdir: of the run that trained them.
    names: of trainees; all in the checkpoint if None.

  Returns:
    The step, and trainee name to parameters as numpy arrays.

  Raises:
    FileNotFoundError: no complete checkpoint.
    KeyError: a trainee is not in the checkpoint.
    OSError: there are checkpoints, but none can be read.
  """
  path = (workdir / FOLDER).absolute()
  names = None if names is None else list(names)
  steps = _steps(path)
  if not steps:
    raise FileNotFoundError(
      f"no checkpoint in {path}: train first with python -m forecasting.main "
      f"--workdir={workdir}, or point --workdir at a run that did"
    )
  unreadable = []
  handler = ocp.PyTreeCheckpointHandler()
  for step in sorted(steps, reverse=True):
    item = path / str(step) / "state"
    try:
      _refuse_damage(path / str(step))
      stored = handler.metadata(item).tree
      missing = sorted(set(names or []) - set(stored))
      if not missing:
        return step, _read_ema(handler, item, stored, names or sorted(stored))
    except Exception as error:
      logging.warning("%s cannot be read (%s)", item, _first_line(error))
      unreadable.append((step, error))
      continue
    raise KeyError(
      f"checkpoint {item} holds {sorted(stored)}, not {missing}: train "
      "them, or remove them from the config"
    )
  raise _none_readable(path, unreadable)


def _read_ema(handler, item, stored, names):
  wanted = {name: {"ema": stored[name]["ema"]} for name in names}
  restore_args = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted
  )
  restored = handler.restore(
    item,
    args=ocp.args.PyTreeRestore(
      wanted, restore_args=restore_args, partial_restore=True
    ),
  )
  return {name: restored[name]["ema"] for name in names}


def _first_line(error: Exception) -> str:
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:300]


def _none_readable(path, unreadable):
  reasons = "; ".join(f"step {s}: {_first_line(e)}" for s, e in unreadable)
  return OSError(
    f"none of the checkpoints in {path} can be read ({reasons}). Restore the "
    "folder from a copy, or remove it to train from the start."
  )


def mark_complete(workdir: Path, step: int) -> None:
  """Says that training ended at a step, after its checkpoint is on disk."""
  if jax.process_index() == 0:
    partial = workdir / f"{COMPLETE}.tmp"
    partial.write_text(f"{step}\n")
    os.replace(partial, workdir / COMPLETE)


def unmark_complete(workdir: Path) -> None:
  """Says that training goes on."""
  if jax.process_index() == 0:
    (workdir / COMPLETE).unlink(missing_ok=True)


def is_complete(workdir: Path) -> bool:
  """Returns whether training in this workdir ran to its end."""
  return (workdir / COMPLETE).exists()
