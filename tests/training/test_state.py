"""The average against its closed form; states are born where they belong."""

import jax
import jax.numpy as jnp
import numpy as np
import toy_run

from forecasting.training.mesh import make_mesh
from forecasting.training.state import update_ema


def test_ema_warm_up_rates():
  # From 0 towards 1, one update leaves 1 - rate.
  for n, rate in [(0, 1 / 10), (1, 2 / 11), (8, 9 / 18), (80, 0.9), (990, 0.9)]:
    ema = update_ema({"w": jnp.zeros(())}, {"w": jnp.ones(())}, n, decay=0.9)
    np.testing.assert_allclose(ema["w"], 1 - rate, rtol=1e-6)


def test_ema_after_n_constant_updates():
  decay, updates = 0.95, 400
  ema = {"w": jnp.full((), 3.0)}
  kept = 1.0
  for n in range(updates):
    ema = update_ema(ema, {"w": jnp.full((), 5.0)}, n, decay)
    kept *= min(decay, (1 + n) / (10 + n))
    if n in (0, 1, 10, updates - 1):
      # Constant parameters: what is left of the start is the product of rates.
      np.testing.assert_allclose(ema["w"], 5.0 - 2.0 * kept, rtol=1e-6)


def test_ema_without_warm_up_is_slow_from_the_start():
  ema = {"w": jnp.full((), 3.0)}
  for n in range(20):
    ema = update_ema(ema, {"w": jnp.full((), 5.0)}, n, 0.95, warm_up=False)
  np.testing.assert_allclose(ema["w"], 5.0 - 2.0 * 0.95**20, rtol=1e-6)


def test_ema_stays_float32():
  ema = update_ema(
    {"w": jnp.ones(2)}, {"w": jnp.full(2, 1.01, jnp.bfloat16)}, 10_000, 0.9995
  )
  assert ema["w"].dtype == jnp.float32
  assert np.all(np.asarray(ema["w"]) > 1.0)  # bfloat16 would round it away


def test_state_starts_with_its_average_at_the_parameters():
  mesh, trainee = make_mesh(), toy_run.trainee()
  state = trainee.create_state(mesh, trainee.key(seed=0))
  assert int(state.step) == 0
  jax.tree.map(np.testing.assert_array_equal, state.params, state.ema)
  abstract = trainee.abstract_state(mesh)
  assert jax.tree.structure(abstract) == jax.tree.structure(state)
  for wanted, leaf in zip(jax.tree.leaves(abstract), jax.tree.leaves(state)):
    assert (wanted.shape, wanted.dtype) == (leaf.shape, leaf.dtype)


def test_initial_parameters_depend_on_seed_and_name_alone():
  def kernel(name, seed):
    trainee = toy_run.trainee(name)
    state = trainee.create_state(make_mesh(), trainee.key(seed))
    return np.asarray(state.params["dense"]["kernel"])

  np.testing.assert_array_equal(kernel("a", 0), kernel("a", 0))
  assert not np.array_equal(kernel("a", 0), kernel("b", 0))
  assert not np.array_equal(kernel("a", 0), kernel("a", 1))
