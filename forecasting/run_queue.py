"""Runs of a study, one process after another; resumable.

A finished run leaves `study_done.json` in its folder and is skipped next time;
one that was pre-empted (exit code 75) is started again.
"""

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

DONE = "study_done.json"
PREEMPTED = os.EX_TEMPFAIL  # 75, as in forecasting.training


T = TypeVar("T")


class Run(NamedTuple):
  """One run of a study: where it goes and what starts it."""

  workdir: Path
  command: list[str]


def shard(items: Sequence[T], part: str) -> list[T]:
  """Returns what one of several hosts is to do.

  Args:
    items: all there is to do.
    part: as in '2/4', the second of four.

  Returns:
    Every fourth item; the parts together have each item once.

  Raises:
    ValueError: `part` is not of this form.
  """
  match = re.fullmatch(r"(\d+)/(\d+)", part)
  if not match or not 0 < int(match[1]) <= int(match[2]):
    raise ValueError(f"shard {part!r}: expected a part such as 1/4 or 4/4")
  return list(items[int(match[1]) - 1 :: int(match[2])])


def has_finished(workdir: Path) -> bool:
  """Returns whether a folder holds a finished run, of whatever command."""
  return (workdir / DONE).exists()


def is_done(run: Run) -> bool:
  """Whether a run has finished, with this very command.

  Raises:
    ValueError: If its folder holds a finished run of another command.
  """
  if not has_finished(run.workdir):
    return False
  command = json.loads((run.workdir / DONE).read_text())["command"]
  if command[1:] != run.command[1:]:
    raise ValueError(
      f"{run.workdir} holds a finished run of another command:\n"
      f"  {shlex.join(command)}\nChoose another folder for the study."
    )
  return True


class Runner:
  """Executes runs and passes a SIGTERM on to the one that is running."""

  def __init__(self):
    """Has no child yet."""
    self._child: subprocess.Popen | None = None
    self._stopping = False

  def stop(self, *_) -> None:
    """Tells the running child to save and exit, and starts no other."""
    self._stopping = True
    if self._child:
      self._child.terminate()

  def execute(self, run: Run) -> int:
    """Runs until an end other than pre-emption; returns the exit code."""
    while not self._stopping:
      self._child = subprocess.Popen(run.command)
      if self._stopping:  # The signal came while the child was starting.
        self._child.terminate()
      code = self._child.wait()
      self._child = None
      if code == 0:
        _mark_done(run)
      if code != PREEMPTED or self._stopping:
        return code
    return PREEMPTED


def _mark_done(run: Run) -> None:
  run.workdir.mkdir(parents=True, exist_ok=True)
  temporary = run.workdir / f"{DONE}.tmp"
  temporary.write_text(json.dumps({"command": run.command}, indent=2) + "\n")
  temporary.replace(run.workdir / DONE)


def execute_all(runs: Sequence[Run], keep_going: bool = False) -> int:
  """Executes what is not done yet, one run after another.

  Args:
    runs: The study.
    keep_going: Go on with the next run after one that failed.

  Returns:
    0 if all are done, else the exit code of the last failure.
  """
  runner = Runner()
  previous = signal.signal(signal.SIGTERM, runner.stop)
  failure = 0
  try:
    for number, run in enumerate(runs, 1):
      head = f"[{number}/{len(runs)}]"
      if is_done(run):
        print(f"{head} done: {run.workdir}", flush=True)
        continue
      print(f"{head} {shlex.join(run.command)}", flush=True)
      code = runner.execute(run)
      if code:
        failure = code
        what = "stopped" if code == PREEMPTED else f"failed with code {code}"
        print(f"{head} {what}: {run.workdir}", flush=True)
        if not keep_going or code == PREEMPTED:
          break
  finally:
    signal.signal(signal.SIGTERM, previous)
  return failure
