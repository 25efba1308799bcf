"""One optimization step, pure and compiled; what a trainee is."""

import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from forecasting.shapes import PRNGKey
from forecasting.training.optimizer import make_optimizer, make_schedule
from forecasting.training.state import (
  TrainState,
  abstract_state,
  create_state,
  update_ema,
)

INIT = 2**32 - 1  # the step number whose key draws the initial parameters


@dataclasses.dataclass(frozen=True)
class Trainee:
  """One independently trained part of a run.

  Attributes:
    name: letters, digits, `_` and `-`; part of its random keys.
    init: key -> params.
    loss: (params, batch, key) -> (scalar, dict of scalars to be logged).
    optimizer: fields of `config.optimizer_config`.
    steps: number of updates.
    ema_decay: of the averaged parameters.
    uses_average: whether `loss` takes the averaged parameters as its fourth
      argument: those of a teacher that follows its student.
  """

  name: str
  init: Callable[..., Any]
  loss: Callable[..., Any]
  optimizer: ConfigDict
  steps: int
  ema_decay: float
  uses_average: bool = False

  def make_optimizer(self) -> optax.GradientTransformation:
    """Returns its optimizer."""
    return make_optimizer(self.optimizer, self.steps)

  def key(self, seed: int) -> PRNGKey:
    """Returns its own key; step k folds in k, so resuming stores no key."""
    name = zlib.crc32(self.name.encode())
    return jax.random.fold_in(jax.random.key(seed), name)

  def abstract_state(self, mesh: Mesh) -> TrainState:
    """Returns shapes, dtypes and shardings of its state."""
    return abstract_state(self.init, self.make_optimizer(), mesh)

  def create_state(self, mesh: Mesh, key: PRNGKey) -> TrainState:
    """Returns its initial state on the mesh, drawn with its own key."""

    def init(key):
      return self.init(jax.random.fold_in(key, INIT))

    return create_state(init, self.make_optimizer(), mesh, key)


def train_step(
  trainee: Trainee, state: TrainState, batch: Any, key: PRNGKey
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Returns the state after one update, and scalars about it.

  Args:
    trainee: what is trained.
    state: before the update.
    batch: as from `shard_batch`.
    key: `trainee.key(seed)`; the step number is folded in here.

  Returns:
    The new state, and the scalars of the loss together with `loss`,
    `grad_norm` (before clipping), `param_norm` (after the update) and
    `learning_rate`.
  """
  step_key = jax.random.fold_in(key, state.step)
  teacher = (state.ema,) if trainee.uses_average else ()
  (loss, scalars), grads = jax.value_and_grad(trainee.loss, has_aux=True)(
    state.params, batch, step_key, *teacher
  )
  updates, opt_state = trainee.make_optimizer().update(
    grads, state.opt_state, state.params
  )
  params = optax.apply_updates(state.params, updates)
  schedule = make_schedule(trainee.optimizer, trainee.steps)
  metrics = {
    **scalars,
    "loss": loss,
    "grad_norm": optax.global_norm(grads),
    "param_norm": optax.global_norm(params),
    "learning_rate": schedule(state.step),
  }
  return TrainState(
    step=state.step + 1,
    params=params,
    ema=update_ema(state.ema, params, state.step, trainee.ema_decay),
    opt_state=opt_state,
  ), metrics


def compile_step(trainee: Trainee, mesh: Mesh) -> Callable[..., Any]:
  """Returns the jitted (state, batch, key) -> (state, metrics).

  The state passed in is donated: it must not be used again.
  """
  shardings = jax.tree.map(lambda x: x.sharding, trainee.abstract_state(mesh))

  def step(state, batch, key):
    return train_step(trainee, state, batch, key)

  return jax.jit(
    step,
    donate_argnums=0,
    out_shardings=(shardings, NamedSharding(mesh, P())),
  )


def enable_compilation_cache(path: Path) -> None:
  """Keeps compiled programs in a folder, so that restarts skip compilation."""
  jax.config.update("jax_compilation_cache_dir", str(path))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
