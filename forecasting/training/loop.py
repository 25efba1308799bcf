"""The training loop: several trainees side by side on the same batches."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
from jax.sharding import Mesh

from forecasting.shapes import PRNGKey
from forecasting.training.checkpoint import (
  Checkpoints,
  mark_complete,
  unmark_complete,
)
from forecasting.training.lanes import Lanes
from forecasting.training.log import MetricsLog, Progress
from forecasting.training.mesh import replicate, shard_batch
from forecasting.training.monitor import Monitor
from forecasting.training.preemption import RESUME_EXIT_CODE, Preemption
from forecasting.training.profiler import Profiler
from forecasting.training.state import TrainState
from forecasting.training.steps import Trainee, compile_step
from forecasting.training.workdir import check_trainees, check_workdir


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
  keep_every: int = 0,
  profile_steps: int = 0,
  progress: bool = True,
  tensorboard: bool = False,
) -> dict[str, TrainState]:
  """Trains all trainees, each for its own number of steps, or resumes.

  Args:
    trainees: stepped on the same batch.
    batches: infinite and checkpointable; yields name to host array.
    workdir: holds `checkpoints/`, `metrics.jsonl` and `train_complete`.
    seed: of parameters and of all draws in the losses.
    mesh: as from `make_mesh`.
    log_every: steps between rows of `metrics.jsonl`.
    checkpoint_every: steps between checkpoints.
    keep: newest checkpoints kept.
    keep_every: those of steps that divide by it are kept too; 0: none.
    profile_steps: steps recorded in `<workdir>/profile`; see `Profiler`.
    progress: show a line with rate and time left.
    tensorboard: also write curves for TensorBoard.

  Returns:
    Trainee name to final state.

  Raises:
    FloatingPointError: a loss or norm is not finite.
    OSError: the workdir cannot be written or is too small.
    ValueError: trainees are misnamed, differ from those of the checkpoint, or
      cannot get from there to the number of steps asked for.
    SystemExit: with code 75 after SIGTERM, when the state has been saved.
  """
  check_trainees(trainees)
  abstract = {t.name: t.abstract_state(mesh) for t in trainees}
  ends = {t.name: t.steps for t in trainees}
  total = max(ends.values())
  check_workdir(workdir, abstract, keep + total // (keep_every or total + 1))
  keys = replicate(lambda: {t.name: t.key(seed) for t in trainees}, mesh)
  step_fns = {t.name: compile_step(t, mesh) for t in trainees}

  with contextlib.ExitStack() as stack:
    lanes = _closed_with(stack, Lanes(mesh))
    checkpoints = _closed_with(stack, Checkpoints(workdir, keep, keep_every))
    create = functools.partial(_create, mesh, keys)
    restored = checkpoints.restore(abstract, batches)
    start, states = restored or (0, dict(lanes.map(create, trainees)))
    _refuse_other_ends(workdir, start, states, ends)
    if start < total:
      unmark_complete(workdir)
    log = line = None
    if jax.process_index() == 0:
      log = _closed_with(stack, MetricsLog(workdir, start, tensorboard))
      line = _closed_with(stack, Progress(total)) if progress else None
    preemption = stack.enter_context(Preemption())
    monitor = Monitor(log, line, log_every, ends)
    profiler = stack.enter_context(Profiler(workdir, profile_steps))

    # Save, fetch, step, in this order: parameters, step number and data
    # position of a checkpoint agree.
    for step in range(start, total):
      stop = preemption.reached(step)
      if stop or (step > start and step % checkpoint_every == 0):
        monitor.flush()
        checkpoints.save(step, states, batches, wait=stop)
      if stop:
        raise SystemExit(RESUME_EXIT_CODE)
      profiler.before(step - start)
      batch = shard_batch(next(batches), mesh)
      # The first step compiles, which may move constants to the device.
      guard = "disallow" if step > start else "allow"
      due = [name for name, end in ends.items() if step < end]
      advance = functools.partial(
        _advance, states, step_fns, batch, keys, guard
      )
      monitor.push(step + 1, dict(lanes.map(advance, due)))

    monitor.flush()
    checkpoints.save(total, states, batches, wait=True)
    mark_complete(workdir, total)
    if preemption.reached(total):
      raise SystemExit(RESUME_EXIT_CODE)
  return states


def _refuse_other_ends(
  workdir: Path,
  start: int,
  states: Mapping[str, TrainState],
  ends: Mapping[str, int],
) -> None:
  """Raises ValueError if a trainee has done more steps, or missed some.

  One that had ended before the checkpoint missed its batches since, and would
  end with fewer updates than asked for.
  """
  done = {name: int(state.step) for name, state in states.items()}
  problems = [
    f"{name!r} was trained for {done[name]} steps, asked for are {end}"
    for name, end in ends.items()
    if done[name] != min(start, end)
  ]
  if problems:
    raise ValueError(
      f"--workdir={workdir} holds a checkpoint of step {start}, from which"
      f" training cannot go on: {'; '.join(problems)}. Ask for as many steps as"
      " before (readout.steps, forecaster.steps), for more of all trainees that"
      " ended together, or choose another --workdir."
    )


def _closed_with(stack: contextlib.ExitStack, opened: Any) -> Any:
  """Returns what was opened, which is closed when the stack is."""
  stack.callback(opened.close)
  return opened


def _create(
  mesh: Mesh, keys: Mapping[str, PRNGKey], trainee: Trainee
) -> tuple[str, TrainState]:
  return trainee.name, trainee.create_state(mesh, keys[trainee.name])


def _advance(
  states: dict[str, TrainState],
  step_fns: Mapping[str, Callable[..., Any]],
  batch: Mapping[str, Any],
  keys: Mapping[str, PRNGKey],
  guard: str,
  name: str,
) -> tuple[str, Mapping[str, Any]]:
  """Steps one trainee in place; returns its name and the step's metrics."""
  with jax.transfer_guard(guard):  # of this thread
    states[name], metrics = step_fns[name](states[name], batch, keys[name])
  return name, metrics
