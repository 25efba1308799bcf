"""Scalars to `metrics.jsonl`, optionally to TensorBoard; a line of progress.

`metrics.jsonl` has one row per logged step and trainee. It is the record that
the report reads, so a resumed run continues it without gaps or repetition.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


class MetricsLog:
  """Appends rows to `<workdir>/metrics.jsonl`."""

  def __init__(self, workdir: Path, step: int, tensorboard: bool = False):
    """Opens the file, cut back to a step.

    Args:
      workdir: of the run.
      step: the one the run continues from; rows after it are dropped, for
        they will be written again.
      tensorboard: also write curves to `<workdir>/tensorboard`.

    Raises:
      ImportError: `tensorboard` without the extra installed.
      OSError: disk full or not writable.
    """
    self._path = workdir / METRICS
    with _reporting(self._path):
      _truncate(self._path, step)
      self._file = self._path.open("a")
    self._writers: dict[str, Any] = {}
    self._create = _tensorboard(workdir) if tensorboard else None

  def write(
    self, step: int, trainee: str, scalars: Mapping[str, float]
  ) -> None:
    """Writes one row, at once so that a kill cannot lose it.

    Args:
      step: updates done.
      trainee: whose scalars these are.
      scalars: name to value; NaN and infinity, which JSON lacks, become null.

    Raises:
      OSError: disk full or not writable.
    """
    row = {"step": step, "trainee": trainee}
    row |= {k: v if math.isfinite(v) else None for k, v in scalars.items()}
    with _reporting(self._path):
      self._file.write(json.dumps(row) + "\n")
      self._file.flush()
    if self._create:
      if trainee not in self._writers:
        self._writers[trainee] = self._create(trainee)
      self._writers[trainee].write_scalars(step, dict(scalars))

  def close(self) -> None:
    """Flushes everything."""
    with _reporting(self._path):
      self._file.close()
    for writer in self._writers.values():
      writer.close()


@contextlib.contextmanager
def _reporting(path: Path) -> Iterator[None]:
  """Turns a failed write into one message that says what to do."""
  try:
    yield
  except OSError as error:
    raise OSError(
      f"cannot write {path}: {error}. Free disk space or mend permissions and "
      "run again: it resumes from the newest complete checkpoint."
    ) from error


def read_metrics(path: Path, last_step: int | None = None) -> list[dict]:
  """Returns the complete rows of a `metrics.jsonl`.

  Args:
    path: of the file; one that does not exist has no rows.
    last_step: rows after it are left out.
  """
  rows = []
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue  # torn by a kill
    if last_step is None or row["step"] <= last_step:
      rows.append(row)
  return rows


def _truncate(path: Path, step: int) -> None:
  rows = read_metrics(path, step)
  partial = path.with_suffix(".tmp")
  partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
  os.replace(partial, path)


def _tensorboard(workdir: Path):
  try:
    # Needs TensorFlow, which the base installation does without.
    from clu import metric_writers
  except ImportError as error:
    raise ImportError(
      "train.tensorboard=True needs the extra: pip install "
      f"'forecasting[tensorboard]' ({error})"
    ) from error
  return lambda trainee: metric_writers.SummaryWriter(
    str(workdir / "tensorboard" / trainee)
  )


class Progress:
  """A line with the step, the rate and the time left.

  Rewritten in place on a terminal; elsewhere a plain line every few
  seconds. Goes to standard error.
  """

  def __init__(self, total: int):
    """Starts the clock.

    Args:
      total: steps when finished.
    """
    self._total = total
    self._stream = sys.stderr
    self._in_place = self._stream.isatty()
    self._every = 0.2 if self._in_place else 5.0  # seconds
    self._begin: tuple[int, float] | None = None
    self._shown = -self._every

  def update(self, step: int, losses: Mapping[str, float]) -> None:
    """Shows the state after a step, unless the last line is too recent."""
    now = time.monotonic()
    # The first step compiles; counting it would spoil the rate.
    self._begin = self._begin or (step, now)
    if now - self._shown < self._every and step < self._total:
      return
    self._shown = now
    done, seconds = step - self._begin[0], now - self._begin[1]
    text = f"train {step}/{self._total} ({100 * step // self._total}%)"
    if done and seconds:
      left = (self._total - step) * seconds / done
      text += f", {done / seconds:.3g} steps/s, {_duration(left)} left"
    text += "".join(f", {name} {loss:.4g}" for name, loss in losses.items())
    if self._in_place:
      text = f"\r\033[K{text}"
    self._stream.write(text + ("" if self._in_place else "\n"))
    self._stream.flush()

  def close(self) -> None:
    """Ends the line on a terminal."""
    if self._in_place and self._begin:
      self._stream.write("\n")
      self._stream.flush()


def _duration(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}h{minutes:02d}m"
  return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
