"""Small backbones and clips, and a few steps of training on one batch."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from forecasting.backbones.zoo import get_spec
from forecasting.training.state import update_ema

SMALL = {
  "resolution": 16,
  "patch": 4,
  "num_frames": 8,
  "width": 24,
  "depth": 1,
  "heads": 2,
  "mlp_dim": 48,
}


@pytest.fixture(scope="session")
def small_spec():
  """Returns a function: backbone name, changes -> a very small spec of it."""

  def make(name, **changes):
    return dataclasses.replace(get_spec(name), **(SMALL | changes))

  return make


@pytest.fixture(scope="session")
def make_video():
  """Returns a function: number of clips, frames, size -> noise."""

  def make(batch=2, frames=8, size=16):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, frames, size, size, 3), np.uint8)

  return make


@pytest.fixture(scope="session")
def random_params():
  """Returns a function: task -> parameters, none of them zero.

  Drawn by NumPy: compiling the initializers takes longer than the tests.
  """

  def draw(task):
    rng = np.random.default_rng(1)
    return jax.tree.map(
      lambda x: rng.normal(
        scale=max(x.shape[:-1], default=25) ** -0.5, size=x.shape
      ).astype(np.float32),
      jax.eval_shape(task.init, jax.random.key(0)),
    )

  return draw


@pytest.fixture(scope="session")
def train():
  """Returns a function: task, batch -> parts of the loss at every step."""

  def run(task, batch, steps=20, rate=3e-3, decay=0.9):
    params = jax.jit(task.init)(jax.random.key(0))
    optimizer = optax.adam(rate)
    state = (params, params, jax.jit(optimizer.init)(params))

    @jax.jit
    def step(state, count):
      params, average, moments = state
      extra = (average,) if task.uses_average else ()
      (loss, parts), grads = jax.value_and_grad(task.loss, has_aux=True)(
        params, batch, jax.random.key(1), *extra
      )
      updates, moments = optimizer.update(grads, moments, params)
      params = optax.apply_updates(params, updates)
      average = update_ema(average, params, count, decay)
      return (params, average, moments), parts | {"loss": loss}

    history = []
    for count in range(steps):
      state, parts = step(state, count)
      history.append(jax.tree.map(float, parts))
    return history, state[0]

  return run
