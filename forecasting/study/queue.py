"""Runs of a study, some at a time; resumable.

A run leaves `study_started.json` in its folder, and `study_done.json` once it
has finished: what was run, so that a finished one is skipped next time and one
of other settings is neither taken for it nor resumed as it. One that was
pre-empted (exit code 75) is started again.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from forecasting import same_run
from forecasting.study import child

DONE = "study_done.json"
STARTED = "study_started.json"
LOG = "log.txt"
PREEMPTED = os.EX_TEMPFAIL  # 75, as in forecasting.training

_TRAINED = "checkpoints"  # FOLDER of forecasting.training.checkpoint
_POLL_SECONDS = 0.05

T = TypeVar("T")


class Run(NamedTuple):
  """One run of a study: where it goes and what starts it.

  Attributes:
    workdir: its folder.
    command: what starts it.
    identify: returns what it depends on, name to value as JSON has them; None:
      its command tells.
    after: folders of runs that come first, if they are to come at all.
  """

  workdir: Path
  command: list[str]
  identify: Callable[[], Mapping[str, Any]] | None = None
  after: tuple[Path, ...] = ()


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
  """Whether a run has finished, as it would be run now.

  Raises:
    ValueError: If its folder holds another run, finished or not; says what is
      different.
  """
  different = differences(run)
  if _is_told_by_command(run):
    command = _record(run)["command"]
    if command[1:] != run.command[1:]:
      different = [f"of another command: {shlex.join(command)}"]
  if different:
    raise ValueError(
      f"{run.workdir} holds another run:\n"
      + "".join(f"  {line}\n" for line in different)
      + f"Delete {run.workdir} to run this one there, or choose another folder"
      " for the study."
    )
  return has_finished(run.workdir)


def differences(run: Run) -> list[str]:
  """Says what a run depends on that was another in the folder's run.

  Returns:
    A line for each; none if the folder is free, or if one of both has no
    identity, as records of earlier versions. Names that only one of them has
    are new fields, or old ones: that version did what is the default now.
  """
  there = _record(run).get("identity")
  if there is None or run.identify is None:
    return []
  return [
    f"{name}: {old!r} there, {new!r} now"
    for name, (old, new) in same_run.differences(there, run.identify()).items()
  ]


def _is_told_by_command(run: Run) -> bool:
  record = _record(run)
  return bool(record) and (run.identify is None or "identity" not in record)


def _record(run: Run) -> dict[str, Any]:
  """Returns what is known of the run that a folder holds; empty if none."""
  names = [DONE]
  # One that failed before it trained leaves nothing to resume from.
  if run.identify is not None and (run.workdir / _TRAINED).exists():
    names.append(STARTED)
  for name in names:
    if (run.workdir / name).exists():
      return json.loads((run.workdir / name).read_text())
  return {}


def _mark_started(run: Run) -> None:
  record = {"command": run.command}
  if run.identify is not None:
    record["identity"] = run.identify()
  run.workdir.mkdir(parents=True, exist_ok=True)
  temporary = run.workdir / f"{STARTED}.tmp"
  temporary.write_text(json.dumps(record, indent=2) + "\n")
  temporary.replace(run.workdir / STARTED)


def _mark_done(run: Run) -> None:
  # As it was when it started: weights may have been replaced meanwhile.
  with contextlib.suppress(FileNotFoundError):  # Another study was faster.
    (run.workdir / STARTED).replace(run.workdir / DONE)


def start(run: Run, cores: Sequence[int], has_log: bool) -> subprocess.Popen:
  """Starts a run that dies with this process.

  Args:
    run: to start.
    cores: that it may use; empty: all.
    has_log: whether its output goes to `log.txt` in its folder.
  """
  _mark_started(run)
  command = child.wrap(run.command, cores)
  if not has_log:
    return subprocess.Popen(command)
  with (run.workdir / LOG).open("ab") as log:
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


class Runner:
  """Executes runs and passes a SIGTERM on to those that are running."""

  def __init__(self, runs: Sequence[Run], keep_going: bool, workers: int):
    """Has started nothing yet; see `execute_all`."""
    self._heads = {
      run.workdir: f"[{number}/{len(runs)}]"
      for number, run in enumerate(runs, 1)
    }
    self._pending = list(runs)
    self._keep_going = keep_going
    self._cores = child.shares(workers) if workers > 1 else [[]]
    self._running: dict[int, tuple[Run, subprocess.Popen]] = {}
    self._stopping = False
    self._failure = 0

  def stop(self, *_: Any) -> None:
    """Tells running children to save and exit, and starts no others."""
    self._stopping = True
    for _, process in self._running.values():
      process.terminate()

  def execute(self) -> int:
    """Runs until all have ended; returns the last failure's code, or 0."""
    try:
      self._fill()
      while self._running:
        time.sleep(_POLL_SECONDS)
        for worker, (run, process) in list(self._running.items()):
          if process.poll() is not None:
            del self._running[worker]
            self._ended(run, process.returncode)
        self._fill()
    finally:
      # Only after an error: of the file system, or of the keyboard.
      self.stop()
      for _, process in self._running.values():
        process.wait()
    if self._pending and not self._failure:
      return PREEMPTED
    return self._failure

  def _fill(self) -> None:
    """Starts what may start."""
    for worker, cores in enumerate(self._cores):
      while worker not in self._running:
        run = self._take()
        if run is None:
          break
        if is_done(run):
          self._say(run, f"done: {run.workdir}")
          continue
        self._say(run, shlex.join(run.command))
        process = start(run, cores, has_log=len(self._cores) > 1)
        self._running[worker] = run, process
        if self._stopping:  # The signal came while the child was starting.
          process.terminate()

  def _take(self) -> Run | None:
    """Returns the next run, if there is one that need not wait."""
    if self._stopping or (self._failure and not self._keep_going):
      return None
    ahead = {run.workdir for run in self._pending}
    ahead |= {run.workdir for run, _ in self._running.values()}
    for run in self._pending:
      if not ahead.intersection(run.after):
        self._pending.remove(run)
        return run
    return None

  def _ended(self, run: Run, code: int) -> None:
    """Notes how a run ended; one that was pre-empted comes again."""
    if code == 0:
      _mark_done(run)
      if len(self._cores) > 1:
        self._say(run, f"finished: {run.workdir}")
      return
    if self._stopping and code == -signal.SIGTERM:
      code = PREEMPTED  # It had not got as far as listening.
    if code == PREEMPTED and not self._stopping:
      self._pending.insert(0, run)
      return
    self._failure = code
    what = "stopped" if code == PREEMPTED else f"failed with code {code}"
    log = f", see {run.workdir / LOG}" if len(self._cores) > 1 else ""
    self._say(run, f"{what}: {run.workdir}{log}")

  def _say(self, run: Run, what: str) -> None:
    print(f"{self._heads[run.workdir]} {what}", flush=True)


def execute_all(
  runs: Sequence[Run], keep_going: bool = False, workers: int = 1
) -> int:
  """Executes what is not done yet, in order.

  Args:
    runs: The study.
    keep_going: Go on with the next run after one that failed.
    workers: Runs at a time; of several, each has its share of the cores, and
      its output goes to `log.txt` in its folder.

  Returns:
    0 if all are done, else the exit code of the last failure.

  Raises:
    ValueError: A folder holds another run; nothing has been started then.
  """
  for run in runs:
    is_done(run)
  runner = Runner(runs, keep_going, workers)
  previous = signal.signal(signal.SIGTERM, runner.stop)
  try:
    return runner.execute()
  finally:
    signal.signal(signal.SIGTERM, previous)
