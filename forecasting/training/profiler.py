"""Records some steps for TensorBoard's profiler or Perfetto."""

from pathlib import Path
from typing import Any

import jax

FOLDER = "profile"
FIRST = 10  # steps that are left out: they compile and fill buffers


class Profiler:
  """Records a number of steps of each process while the context is open."""

  def __init__(self, workdir: Path, steps: int):
    """Records nothing yet.

    Args:
      workdir: of the run; the trace goes to `profile` in it.
      steps: how many are recorded; 0: none.
    """
    self._path, self._steps = workdir / FOLDER, steps
    self._is_recording = False

  def __enter__(self) -> "Profiler":
    """Does nothing."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Ends the recording of a run that is shorter."""
    self._stop()

  def before(self, step: int) -> None:
    """Starts or ends the recording where it is due.

    Args:
      step: about to be taken, counted from the start of the process.
    """
    if step == FIRST and self._steps:
      jax.profiler.start_trace(self._path)
      self._is_recording = True
    elif step == FIRST + self._steps:
      self._stop()

  def _stop(self) -> None:
    if self._is_recording:
      self._is_recording = False
      jax.profiler.stop_trace()
