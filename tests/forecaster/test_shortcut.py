"""The few-step forecaster: two steps agree with one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from forecasting.forecaster import shortcut
from forecasting.forecaster.registry import make_forecaster

SPEC = tiny.SPEC


def _ddim(z, x, now, new):
  """A step by way of the noise that z and x imply."""
  eps = (z - (1 - now) * x) / now
  return (1 - new) * x + new * eps


def test_one_step_ends_where_two_do():
  rng = np.random.default_rng(0)
  z, first, second = rng.normal(size=(3, 4, 5))
  levels = np.array([[0.998, 0.7, 0.2], [0.5, 0.1, 0.0], [0.3, 0.29, 0.28]])
  for a, b, c in levels:
    middle = _ddim(z, first, a, b)
    end = _ddim(middle, second, b, c)
    triple = tuple(jnp.full(4, level) for level in (a, b, c))
    x = shortcut.combine(jnp.asarray(first), jnp.asarray(second), triple)
    np.testing.assert_allclose(_ddim(z, np.asarray(x), a, c), end, atol=1e-5)


def test_drawn_steps_lie_on_the_grid():
  cfg = tiny.config()
  cfg.shortcut.finest = 16
  forecaster = make_forecaster("shortcut", cfg, SPEC, None)
  keys = jax.random.split(jax.random.key(0), (2, 500))
  length, levels = forecaster._draw_step(*keys)
  place = np.searchsorted(-forecaster.grid, -np.stack(levels, 1) - 1e-6)
  span = 2 ** np.asarray(length)
  start, middle, end = place.T
  np.testing.assert_array_equal(end - start, span)
  np.testing.assert_array_equal(middle - start, span // 2)
  np.testing.assert_array_equal(start % span, 0)
  assert set(span) == {2, 4, 8, 16}
  assert all(len(set(start[span == k])) == 16 // k for k in (2, 4, 8, 16))


def test_samples_take_steps_of_their_length():
  cfg = tiny.config()
  cfg.shortcut.update(finest=8, steps=2)
  forecaster = make_forecaster("shortcut", cfg, SPEC, None)
  params = tiny.random_params(forecaster)
  data, keys = tiny.batch(2), jax.random.split(jax.random.key(7), 2)
  assert forecaster.calls == 2
  draw = jax.jit(forecaster.sample, static_argnums=4)
  out = draw(params, data["context"], data["times"], keys, 1)
  key = jax.random.fold_in(jax.random.fold_in(keys[1], 0), 0)
  z = jax.random.normal(key, (1, 1, *data["future"].shape[1:]))
  past, times = data["context"][1:], data["times"][1:]
  cache = forecaster.network.apply(params, past, times, method="encode_context")
  predict = jax.jit(forecaster.predict)
  for now, new in ((0, 4), (4, 8)):
    t = jnp.full((1, 1), forecaster.grid[now], jnp.float32)
    x = predict(params, cache, z, t, jnp.full((1, 1), 2), times)
    z = _ddim(z, x, forecaster.grid[now], forecaster.grid[new])
  np.testing.assert_allclose(out[1] - past[:, -1:], z[0], atol=1e-4)


def test_steps_are_trained_on_x_alike_at_every_level():
  """What (2) averages: weighted by level, some lengths would be left behind."""
  cfg = tiny.config()
  data, found = tiny.batch(4), []
  for weight in (0.0, 0.7):
    cfg.shortcut.weight = weight
    forecaster = make_forecaster("shortcut", cfg, SPEC, None)
    params = tiny.random_params(forecaster)
    found.append(jax.jit(forecaster.loss)(params, data, jax.random.key(5)))
  (without, _), (weighted, scalars) = found
  np.testing.assert_allclose(
    jnp.mean(weighted - without), 0.7 * scalars["shortcut_error"], rtol=1e-3
  )
  assert scalars["shortcut_error"] > 1e-3


@pytest.mark.parametrize(
  ("field", "value"), [("steps", 3), ("steps", 128), ("finest", 48)]
)
def test_wrong_fields_are_named(field, value):
  cfg = tiny.config()
  cfg.shortcut[field] = value
  with pytest.raises(ValueError, match=f"shortcut.{field} is {value}"):
    make_forecaster("shortcut", cfg, SPEC, None)
