"""Checks made before training: what can be known early must not fail late."""

import contextlib
import fcntl
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import jax

from forecasting.training.checkpoint import FOLDER
from forecasting.training.state import TrainState
from forecasting.training.steps import Trainee

_LOCK = ".running"
_PATIENCE = 5.0  # seconds that a killed run may take to be gone


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
  """Keeps other runs out of a workdir until this one ends, however it does.

  The first process of a run holds a lock that its death releases, which may
  take some seconds: so long it is waited for. File systems without locks keep
  nobody out.

  Args:
    workdir: of the run; exists.

  Raises:
    OSError: another run is there.
  """
  if jax.process_index() > 0:
    yield
    return
  path = workdir / _LOCK
  with path.open("a") as file:
    deadline = time.monotonic() + _PATIENCE
    while not _is_locked(file):
      if time.monotonic() > deadline:
        raise OSError(
          f"--workdir={workdir} is in use by another run. Wait until it ends or"
          f" choose another folder; if nothing runs there, delete {path}."
        )
      time.sleep(0.1)
    yield


def _is_locked(file: TextIO) -> bool:
  """Tries to lock a file; returns False if another process has it."""
  try:
    # Unlike those of flock, forked children do not inherit this lock.
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except (BlockingIOError, PermissionError):
    return False
  except OSError:
    pass
  return True


def check_trainees(trainees: Sequence[Trainee]) -> None:
  """Raises ValueError if a name or a number of steps cannot work."""
  names = [t.name for t in trainees]
  problems = [
    f"name {n!r}: expected letters, digits, _ and - only"
    for n in names
    if not re.fullmatch(r"[A-Za-z0-9_-]+", n)
  ]
  problems += [f"name {n!r} occurs twice" for n in names if names.count(n) > 1]
  problems += [
    f"{t.name}: steps={t.steps}, expected at least 1"
    for t in trainees
    if t.steps < 1
  ]
  if not trainees or problems:
    raise ValueError(
      "trainees: " + ("; ".join(problems) or "none given, expected at least 1")
    )


def check_workdir(
  workdir: Path, abstract: Mapping[str, TrainState], keep: int
) -> None:
  """Makes the workdir, and makes sure that checkpoints will fit into it.

  Args:
    workdir: of the run.
    abstract: name to shapes and dtypes of each trainee's state.
    keep: checkpoints kept.

  Raises:
    OSError: it cannot be written, or the disk is too full.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir) as probe:
      probe.write(b"0" * 4096)
  except OSError as error:
    raise OSError(
      f"cannot write into --workdir={workdir}: {error}. Choose a folder that "
      "is writable and has free space."
    ) from error
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract))
  folder = workdir / FOLDER
  present = len(list(folder.iterdir())) if folder.is_dir() else 0
  # A new checkpoint is complete before the oldest is deleted.
  needed = size * max(keep + 1 - present, 1)
  free = shutil.disk_usage(workdir).free
  if free < needed:
    raise OSError(
      f"--workdir={workdir}: {free / 1e9:.2f} GB free, but checkpoints need "
      f"{needed / 1e9:.2f} GB ({keep} kept of {size / 1e9:.2f} GB each, and "
      "one being written). Free space or lower train.keep."
    )
