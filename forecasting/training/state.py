"""What is trained: parameters, their average and the optimizer's state."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from forecasting.shapes import PRNGKey
from forecasting.training.mesh import state_shardings


@flax.struct.dataclass
class TrainState:
  """State of one trainee.

  Attributes:
    step: int32 scalar, updates done.
    params: float32 tree.
    ema: float32 tree, exponential moving average of `params`.
    opt_state: of the optimizer.
  """

  step: Any
  params: Any
  ema: Any
  opt_state: Any


def update_ema(
  ema: Any, params: Any, count: Any, decay: float, warm_up: bool = True
) -> Any:
  """Returns the average after one more update.

  Args:
    ema: average so far, float32.
    params: parameters after the update.
    count: updates averaged so far, from 0.
    decay: share of the average that an update keeps.
    warm_up: whether the n-th update keeps no more than (1 + n) / (10 + n), so
      that the initial parameters are soon forgotten.

  Source: forecaster.md section 7.4.
  """
  rate: Any = decay
  if warm_up:
    rate = jnp.minimum(decay, (1.0 + count) / (10.0 + count))
  return jax.tree.map(
    lambda e, p: e + (1.0 - rate) * (p.astype(jnp.float32) - e), ema, params
  )


def _make_state(
  init: Callable[[PRNGKey], Any],
  optimizer: optax.GradientTransformation,
  key: PRNGKey,
) -> TrainState:
  params = init(key)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    # A copy: step donates both, so they may not share a buffer.
    ema=jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=True), params),
    opt_state=optimizer.init(params),
  )


def abstract_state(
  init: Callable[[PRNGKey], Any],
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
) -> TrainState:
  """Returns shapes, dtypes and shardings of a state, without computing it."""
  shapes = jax.eval_shape(
    lambda key: _make_state(init, optimizer, key), jax.random.key(0)
  )
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    state_shardings(shapes, mesh),
  )


def create_state(
  init: Callable[[PRNGKey], Any],
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  key: PRNGKey,
) -> TrainState:
  """Returns an initial state of which each device only ever held its shard."""
  shardings = jax.tree.map(
    lambda x: x.sharding, abstract_state(init, optimizer, mesh)
  )
  return jax.jit(
    lambda key: _make_state(init, optimizer, key), out_shardings=shardings
  )(key)
