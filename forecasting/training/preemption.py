"""Notice of a coming end, so that a run can save and be resumed."""

import os
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

RESUME_EXIT_CODE = os.EX_TEMPFAIL  # 75: run the same command again


def exit_when_terminated() -> None:
  """Lets SIGTERM end this process at once with the code of a pre-emption.

  For what binaries do outside of training, such as extraction and evaluation,
  which loses nothing when it is killed and continues when run again. One of
  several processes is left to jax.distributed, whose listener comes later.
  """
  signal.signal(signal.SIGTERM, lambda *_: os._exit(RESUME_EXIT_CODE))


class Preemption:
  """Remembers SIGTERM while the context is open."""

  def __init__(self):
    """Listens to nothing yet."""
    self._received = threading.Event()
    self._previous: Any = None
    # jax.distributed has its own listener, which agrees on a step for all
    # processes; only the main thread may install handlers.
    self._listens = (
      jax.process_count() == 1
      and threading.current_thread() is threading.main_thread()
    )

  def __enter__(self) -> "Preemption":
    """Starts listening."""
    if self._listens:
      self._previous = signal.signal(
        signal.SIGTERM, lambda *_: self._received.set()
      )
    return self

  def __exit__(self, *_: Any) -> None:
    """Restores the handler found."""
    if self._listens:
      signal.signal(signal.SIGTERM, self._previous)

  def reached(self, step: int) -> bool:
    """Returns whether to save and stop before this step, alike on all hosts."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._received.is_set()
