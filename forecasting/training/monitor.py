"""Watches the scalars of each step: finite, logged, shown."""

import math
from collections.abc import Mapping
from typing import Any

import jax

from forecasting.training.log import MetricsLog, Progress

MUST_BE_FINITE = ("loss", "grad_norm", "param_norm")


class Monitor:
  """Reads the metrics of a step once the next one has been dispatched."""

  def __init__(
    self,
    log: MetricsLog | None,
    progress: Progress | None,
    every: int,
    last_steps: Mapping[str, int],
  ):
    """Starts with nothing pending.

    Args:
      log: where rows go; None on all processes but the first.
      progress: line to update, if any.
      every: steps between rows; the first and the last step have one too.
      last_steps: trainee to the number of its last step.
    """
    self._log, self._progress = log, progress
    self._every, self._last_steps = every, last_steps
    self._pending: tuple[int, Mapping[str, Any]] | None = None
    self._losses: dict[str, float] = {}

  def push(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Takes the metrics of a step, and reads those of the step before.

    Args:
      step: updates done, this one included.
      metrics: trainee to name to device scalar.

    Raises:
      FloatingPointError: those read are not finite.
    """
    previous, self._pending = self._pending, (step, metrics)
    self._read(previous)

  def flush(self) -> None:
    """Reads what is pending.

    Raises:
      FloatingPointError: it is not finite.
    """
    previous, self._pending = self._pending, None
    self._read(previous)

  def _read(self, pending: tuple[int, Mapping[str, Any]] | None) -> None:
    if pending is None:
      return
    step, metrics = pending
    for trainee, scalars in jax.device_get(metrics).items():
      scalars = {k: float(v) for k, v in scalars.items()}
      refuse_non_finite(step, trainee, scalars)
      self._losses[trainee] = scalars["loss"]
      at_end = step in (1, self._last_steps[trainee])
      if self._log and (at_end or step % self._every == 0):
        self._log.write(step, trainee, scalars)
    if self._progress:
      self._progress.update(step, self._losses)


def refuse_non_finite(
  step: int, trainee: str, scalars: Mapping[str, float]
) -> None:
  """Raises FloatingPointError if the loss or a norm is NaN or infinite."""
  if all(math.isfinite(scalars[k]) for k in MUST_BE_FINITE):
    return
  names = dict.fromkeys([*MUST_BE_FINITE, *scalars])  # the loss first
  bad = [f"{k}={scalars[k]}" for k in names if not math.isfinite(scalars[k])]
  raise FloatingPointError(
    f"training of {trainee!r} stopped at step {step}: {', '.join(bad)}. No "
    "checkpoint was written after it; lower the learning rate or check the "
    "data, then run again to resume from the newest checkpoint."
  )
