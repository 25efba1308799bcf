"""One optimization step, pure and compiled; what a trainee is."""

import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
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
    ema_warm_up: whether the average soon forgets the initial parameters.
    accumulate: parts that a batch is split in; their gradients are averaged, so
      that only one part's activations are in memory.
    uses_average: whether `loss` takes the averaged parameters as its fourth
      argument: those of a teacher that follows its student.
  """

  name: str
  init: Callable[..., Any]
  loss: Callable[..., Any]
  optimizer: ConfigDict
  steps: int
  ema_decay: float
  accumulate: int = 1
  uses_average: bool = False
  ema_warm_up: bool = True

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
  (loss, scalars), grads = _gradients(trainee, state, batch, step_key)
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
    ema=update_ema(
      state.ema, params, state.step, trainee.ema_decay, trainee.ema_warm_up
    ),
    opt_state=opt_state,
  ), metrics


def _gradients(
  trainee: Trainee, state: TrainState, batch: Any, key: PRNGKey
) -> Any:
  """Returns ((loss, scalars), gradients), the means over the batch's parts."""
  teacher = (state.ema,) if trainee.uses_average else ()

  def differentiate(part):
    return jax.value_and_grad(trainee.loss, has_aux=True)(
      state.params, part, key, *teacher
    )

  count = trainee.accumulate
  if count == 1:
    return differentiate(batch)
  # Neighbors go to different parts: then every device keeps its examples.
  parts = jax.tree.map(
    lambda x: rearrange(x, "(b n) ... -> n b ...", n=count), batch
  )
  first = jax.tree.map(lambda x: x[0], parts)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(differentiate, first)
  )
  total, _ = jax.lax.scan(
    lambda total, part: (
      jax.tree.map(jnp.add, total, differentiate(part)),
      None,
    ),
    zeros,
    parts,
  )
  return jax.tree.map(lambda x: x / count, total)


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


def enable_compilation_cache(path: str | None, workdir: Path) -> None:
  """Keeps compiled programs in a folder, so that restarts skip compilation.

  Args:
    path: of the folder, which runs may share; None: `compiled` in the workdir.
    workdir: of the run.
  """
  folder = path or str(workdir / "compiled")
  jax.config.update("jax_compilation_cache_dir", folder)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
