"""Noise paths, conversions and the losses built on them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from forecasting.forecaster import objective, process, schedule

PATHS = (schedule.LINEAR, schedule.COSINE)
PAIRS = list(itertools.permutations(process.PREDICTIONS, 2))


def _triple(path, count=64, seed=0):
  rng = np.random.default_rng(seed)
  x0, eps = (jnp.asarray(tiny.normal(rng, count, 2, 2, 3)) for _ in range(2))
  t = jnp.linspace(1e-3, 1 - 1e-3, count)
  z = process.corrupt(path, x0, eps, t)
  v = process.velocity(path, x0, eps, t)
  return {"x0": x0, "eps": eps, "v": v}, z, t


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_moments_of_corrupted_standard_normal(path, t):
  count = 2**16
  rng = np.random.default_rng(1)
  x0, eps = (tiny.normal(rng, count, 1, 1, 1) for _ in range(2))
  z = np.asarray(process.corrupt(path, x0, eps, jnp.float32(t)), np.float64)
  linear = (1 - t) ** 2 + t**2
  variance = linear if path.name == "linear" else 1.0
  assert abs(z.mean()) < 4 * np.sqrt(variance / count)
  assert abs(z.var() - variance) < 4 * variance * np.sqrt(2 / count)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_conversion_matches_the_definition_and_round_trips(path, pair):
  source, target = pair
  values, z, t = _triple(path)
  there = process.CONVERTERS[source, target](path, values[source], z, t)
  back = process.CONVERTERS[target, source](path, there, z, t)
  # z carries alpha x0 + sigma eps: where one amplitude is tiny, float32 holds
  # its factor only up to that amplitude, so errors are counted as part of z.
  amplitude = {
    "x0": np.asarray(path.alpha(t)),
    "eps": np.asarray(path.sigma(t)),
    "v": np.minimum(path.alpha(t), path.sigma(t)),
  }
  for got, kind in ((there, target), (back, source)):
    error = np.abs(got - values[kind]) * amplitude[kind][:, None, None, None]
    assert error.max() / np.abs(z).max() < 1e-5


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_conversions_in_the_middle_of_the_path(path):
  values, z, t = _triple(path)
  middle = slice(16, 48)
  for source, target in PAIRS:
    got = process.CONVERTERS[source, target](path, values[source], z, t)
    np.testing.assert_allclose(
      got[middle], values[target][middle], rtol=1e-5, atol=1e-5
    )


def test_velocity_of_the_linear_path():
  values, _, _ = _triple(schedule.LINEAR)
  np.testing.assert_array_equal(values["v"], values["eps"] - values["x0"])


def test_log_snr_survives_the_change_of_path():
  t = jnp.linspace(0.01, 0.99, 50)
  linear = schedule.to_linear(schedule.COSINE, t)
  np.testing.assert_allclose(
    schedule.log_snr(schedule.LINEAR, linear),
    schedule.log_snr(schedule.COSINE, t),
    atol=1e-4,
  )
  np.testing.assert_allclose(schedule.COSINE.from_linear(linear), t, atol=1e-6)


def test_resolve_shift_values_of_the_reference():
  assert schedule.resolve_shift("auto_slot", 6, 196, 1792) == pytest.approx(
    9.26, abs=0.01
  )
  assert schedule.resolve_shift("auto_full", 6, 196, 1792) == pytest.approx(
    22.7, abs=0.05
  )
  assert schedule.resolve_shift(13, 6, 196, 1792) == 13.0
  assert schedule.resolve_shift("13", 6, 196, 1792) == 13.0
  for wrong in ("auto", "-1", "nan", 0):
    with pytest.raises(ValueError, match=r"flow\.shift"):
      schedule.resolve_shift(wrong, 6, 196, 1792)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
@pytest.mark.parametrize(
  ("prediction", "space"),
  [("x0", "v"), ("v", "v"), ("eps", "x0"), ("v", "eps")],
)
def test_loss_equals_the_squared_error_in_its_space(path, space, prediction):
  rng = np.random.default_rng(2)
  x0 = tiny.normal(rng, 3, 2, 2, 2, 4)
  eps, answer = (tiny.normal(rng, 3, 2, 2, 2, 2, 4) for _ in range(2))
  t = jnp.array([[0.2, 0.5], [0.7, 0.3], [0.4, 0.6]])
  losses, _ = objective.diffusion_loss(
    lambda z, levels: answer, path, prediction, space, x0, eps, t
  )
  levels = jnp.broadcast_to(t[..., None], (3, 2, 2))
  wide = jnp.broadcast_to(x0[:, None], eps.shape)
  z = process.corrupt(path, wide, eps, levels)
  convert = process.CONVERTERS[prediction, space]
  truth = {
    "x0": wide,
    "eps": eps,
    "v": process.velocity(path, wide, eps, levels),
  }[space]
  error = np.square(convert(path, answer, z, levels) - truth)
  np.testing.assert_allclose(losses, error.mean((1, 2, 3, 4, 5)), rtol=1e-5)


def test_velocity_loss_weighs_x0_errors_by_inverse_square_clipped():
  x0 = jnp.zeros((1, 1, 1, 1, 1))
  eps = jnp.zeros((1, 1, 1, 1, 1, 1))
  for t, weight in ((0.5, 4.0), (0.2, 25.0), (0.01, 400.0)):
    losses, errors = objective.diffusion_loss(
      lambda z, levels: jnp.ones_like(z),
      schedule.LINEAR,
      "x0",
      "v",
      x0,
      eps,
      jnp.array([[t]]),
    )
    np.testing.assert_allclose(losses, [weight], rtol=1e-6)
    np.testing.assert_allclose(errors, [1.0])


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_edm_corrects_the_best_guess_from_noisy_unit_data(path):
  values, z, t = _triple(path)
  f = process.target(path, "edm", values["x0"], values["eps"], t)
  back = process.CONVERTERS["edm", "x0"](path, f, z, t)
  np.testing.assert_allclose(back, values["x0"], atol=1e-5)
  # What is left to predict is unrelated to z and of unit variance at any level.
  x0, eps = tiny.normal(np.random.default_rng(5), 2, 2**14, 1, 1, 1)
  for level in (0.01, 0.5, 0.99):
    t = jnp.full(2**14, level)
    noisy = process.corrupt(path, x0, eps, t)
    rest = np.asarray(process.target(path, "edm", x0, eps, t))
    assert abs(np.mean(rest * noisy)) < 4 / 2**7
    assert abs(np.mean(rest**2) - 1) < 4 * np.sqrt(2) / 2**7


def test_error_of_edm_counts_as_the_velocity_it_makes():
  rng = np.random.default_rng(2)
  x0 = tiny.normal(rng, 3, 2, 2, 2, 4)
  eps, answer = (tiny.normal(rng, 3, 2, 2, 2, 2, 4) for _ in range(2))
  t = jnp.array([[0.2, 0.5], [0.7, 0.3], [0.4, 0.6]])
  losses, _ = objective.diffusion_loss(
    lambda z, levels: answer, schedule.LINEAR, "edm", "v", x0, eps, t
  )
  wide = t[..., None, None, None, None]
  z = (1 - wide) * x0[:, None] + wide * eps
  square = (1 - wide) ** 2 + wide**2
  guess = (1 - wide) / square * z + wide / np.sqrt(square) * answer
  error = np.square((z - guess) / wide - (eps - x0[:, None]))
  np.testing.assert_allclose(losses, error.mean((1, 2, 3, 4, 5)), rtol=1e-4)


def test_logit_normal_levels():
  keys = jax.random.split(jax.random.key(3), 2**14)
  plain = np.asarray(objective.logit_normal(keys, 1.0), np.float64)
  logits = np.log(plain / (1 - plain))
  assert abs(logits.mean()) < 4 / 2**7
  assert abs(logits.std() - 1) < 4 / 2**7
  shifted = objective.logit_normal(keys, 9.3)
  np.testing.assert_allclose(
    np.median(shifted), 9.3 / (1 + 9.3), atol=4 * 0.12 / 2**7
  )


def test_some_levels_are_even_in_log_snr():
  keys = jax.random.split(jax.random.key(6), (2, 2**12))
  levels = objective.logit_normal(keys, 100.0)
  mixed = objective.sometimes_even(keys, levels, 0.25, 0.005, 0.998)
  mixed = np.asarray(mixed, np.float64)
  is_even = mixed != np.asarray(levels)
  assert abs(is_even.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2**13)
  logits = np.sort(np.log(mixed[is_even] / (1 - mixed[is_even])))
  low, high = np.log(0.005 / 0.995), np.log(0.998 / 0.002)
  ranks = (np.arange(len(logits)) + 0.5) / len(logits)
  distance = np.abs((logits - low) / (high - low) - ranks).max()
  assert distance < 1.63 / np.sqrt(len(logits))  # Kolmogorov, 1 %


def test_discrete_levels_stay_off_the_ends():
  keys = jax.random.split(jax.random.key(4), 4096)
  levels = np.asarray(objective.discrete_levels(keys, 10))
  np.testing.assert_allclose(np.unique(levels), np.arange(10) / 10 + 0.05)
