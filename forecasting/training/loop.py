"""The training loop: several trainees side by side on the same batches."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
from jax.sharding import Mesh

from forecasting.training.checkpoint import Checkpoints, mark_complete
from forecasting.training.log import MetricsLog, Progress
from forecasting.training.mesh import shard_batch
from forecasting.training.preemption import RESUME_EXIT_CODE, Preemption
from forecasting.training.state import TrainState
from forecasting.training.steps import Trainee, compile_step
from forecasting.training.workdir import check_trainees, check_workdir

MUST_BE_FINITE = ("loss", "grad_norm", "param_norm")


class Monitor:
  """Reads the metrics of a step once the next one has been dispatched."""

  def __init__(self, log: MetricsLog, progress: Progress | None, every: int):
    """Args as attributes of the loop; `every` is in steps."""
    self._log, self._progress, self._every = log, progress, every
    self._pending: tuple[int, Mapping[str, Any], bool] | None = None
    self._losses: dict[str, float] = {}

  def push(self, step: int, metrics: Mapping[str, Any], last: bool) -> None:
    """Takes the device metrics of a step, and reads those of the one before.

    Args:
      step: updates done, this one included.
      metrics: trainee to name to device scalar.
      last: whether to log this step whatever its number.
    """
    previous, self._pending = self._pending, (step, metrics, last)
    self._read(previous)

  def flush(self) -> None:
    """Reads what is pending.

    Raises:
      FloatingPointError: it is not finite.
    """
    previous, self._pending = self._pending, None
    self._read(previous)

  def _read(self, pending: tuple[int, Mapping[str, Any], bool] | None) -> None:
    if pending is None:
      return
    step, metrics, last = pending
    for trainee, scalars in jax.device_get(metrics).items():
      scalars = {k: float(v) for k, v in scalars.items()}
      refuse_non_finite(step, trainee, scalars)
      self._losses[trainee] = scalars["loss"]
      if step == 1 or step % self._every == 0 or last:
        self._log.write(step, trainee, scalars)
    if self._progress:
      self._progress.update(step, self._losses)


def refuse_non_finite(
  step: int, trainee: str, scalars: Mapping[str, float]
) -> None:
  """Raises FloatingPointError if the loss or a norm is NaN or infinite."""
  if all(math.isfinite(scalars[k]) for k in MUST_BE_FINITE):
    return
  bad = [f"{k}={v}" for k, v in scalars.items() if not math.isfinite(v)]
  raise FloatingPointError(
    f"training of {trainee!r} stopped at step {step}: {', '.join(bad)}. No "
    "checkpoint was written after it; lower the learning rate or check the "
    "data, then run again to resume from the newest checkpoint."
  )


def fit(
  trainees: Sequence[Trainee],
  batches: grain.DatasetIterator,
  *,
  workdir: Path,
  seed: int,
  mesh: Mesh,
  log_every: int,
  checkpoint_every: int,
  keep: int,
  progress: bool = True,
  tensorboard: bool = False,
) -> dict[str, TrainState]:
  """Trains all trainees, each for its own number of steps, or resumes.

  Args:
    trainees: stepped one after the other on the same batch.
    batches: infinite and checkpointable; yields name to host array.
    workdir: holds `checkpoints/`, `metrics.jsonl` and `train_complete`.
    seed: of parameters and of all draws in the losses.
    mesh: as from `make_mesh`.
    log_every: steps between rows of `metrics.jsonl`.
    checkpoint_every: steps between checkpoints.
    keep: newest checkpoints kept.
    progress: show a line with rate and time left.
    tensorboard: also write curves for TensorBoard.

  Returns:
    Trainee name to final state.

  Raises:
    FloatingPointError: a loss or norm is not finite.
    OSError: the workdir cannot be written or is too small.
    ValueError: trainees are misnamed or differ from those of the checkpoint.
    SystemExit: with code 75 after SIGTERM, when the state has been saved.
  """
  check_trainees(trainees)
  abstract = {t.name: t.abstract_state(mesh) for t in trainees}
  check_workdir(workdir, abstract, keep)
  keys = {t.name: t.key(seed) for t in trainees}
  step_fns = {t.name: compile_step(t, mesh) for t in trainees}
  total = max(t.steps for t in trainees)
  ends = {t.steps for t in trainees}

  with contextlib.ExitStack() as stack:
    checkpoints = Checkpoints(workdir, keep)
    stack.callback(checkpoints.close)
    start, states = checkpoints.restore(abstract, batches) or (
      0,
      {t.name: t.create_state(mesh, seed) for t in trainees},
    )
    log = MetricsLog(workdir, start, tensorboard)
    stack.callback(log.close)
    line = Progress(start, total) if progress else None
    if line:
      stack.callback(line.close)
    preemption = stack.enter_context(Preemption())
    monitor = Monitor(log, line, log_every)

    # Save, fetch, step, in this order: parameters, step number and data
    # position of a checkpoint agree.
    for step in range(start, total):
      stop = preemption.reached(step)
      if stop or (step > start and step % checkpoint_every == 0):
        monitor.flush()
        checkpoints.save(step, states, batches)
      if stop:
        checkpoints.wait()
        raise SystemExit(RESUME_EXIT_CODE)
      batch = shard_batch(next(batches), mesh)
      metrics = {}
      # The first step compiles, which may move constants to the device.
      guard = "disallow" if step > start else "allow"
      with jax.transfer_guard(guard):
        for t in trainees:
          if step < t.steps:
            states[t.name], metrics[t.name] = step_fns[t.name](
              states[t.name], batch, keys[t.name]
            )
      monitor.push(step + 1, metrics, last=step + 1 in ends)

    monitor.flush()
    checkpoints.save(total, states, batches)
    checkpoints.wait()
    mark_complete(workdir, total)
    if preemption.reached(total):
      raise SystemExit(RESUME_EXIT_CODE)
  return states
