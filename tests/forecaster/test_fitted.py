"""Baselines fitted in closed form, against NumPy's least squares."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from forecasting.forecaster.registry import make_forecaster

SPEC = dataclasses.replace(tiny.SPEC, tc=3)


def _bank(size=12):
  """Futures that depend on the context, with noise."""
  data = tiny.batch(size, SPEC)
  context = np.asarray(data["context"], np.float64)
  future = np.asarray(data["future"], np.float64)
  steps = np.arange(1, SPEC.tf + 1)[:, None, None, None]
  change = 0.4 * steps * (context[:, -1:] - context[:, -2:-1])
  mixed = 0.2 * np.roll(context[:, :1], 1, axis=-1) + 0.5
  future = context[:, -1:] + change + mixed + 0.1 * future
  return {
    "context": context.astype(np.float32),
    "future": future.astype(np.float32),
  }


def _forecast(name, bank, num_samples=4):
  forecaster = make_forecaster(name, tiny.config(), SPEC, None)
  data = tiny.batch(2, SPEC, seed=1)
  keys = jax.random.split(jax.random.key(0), 2)
  out = forecaster.sample(
    forecaster.fit(bank), data["context"], data["times"], keys, num_samples
  )
  return np.asarray(data["context"], np.float64), np.asarray(out)


def test_linear_is_least_squares_with_a_factor_per_slot():
  bank = _bank()
  context, out = _forecast("linear_latent", bank)
  known = bank["context"].astype(np.float64)
  speed = (known[:, -1] - known[:, -2]).reshape(-1, 1)
  for k in range(SPEC.tf):
    change = (bank["future"][:, k] - known[:, -1]).reshape(-1, 1)
    factor = np.linalg.lstsq(speed, change, rcond=None)[0].item()
    assert abs(factor - 0.4 * (k + 1)) < 0.2
    expected = context[:, -1] + factor * (context[:, -1] - context[:, -2])
    np.testing.assert_allclose(out[:, 0, k], expected, atol=1e-4)


def test_one_slot_has_no_velocity():
  spec = dataclasses.replace(SPEC, tc=1)
  bank = {key: value[:, -spec.tc :] for key, value in _bank().items()}
  bank["future"] = _bank()["future"]
  forecaster = make_forecaster("linear_latent", tiny.config(), spec, None)
  np.testing.assert_array_equal(forecaster.fit(bank)["factor"], 0)


def test_ridge_is_least_squares_with_rows_for_the_penalty():
  bank = _bank()
  context, out = _forecast("ridge_latent", bank)

  def inputs(context):
    changes = context[:, 1:] - context[:, :-1]
    x = np.concatenate([context[:, -1:], changes], axis=1)
    return np.moveaxis(x, 1, 3).reshape(*x.shape[:1], *x.shape[2:4], -1)

  known = bank["context"].astype(np.float64)
  x = inputs(known).reshape(-1, SPEC.tc * SPEC.channels)
  y = np.moveaxis(bank["future"] - known[:, -1:], 1, 3)
  y = y.reshape(len(x), -1)
  mean_x, mean_y = x.mean(0), y.mean(0)
  penalty = tiny.config().ridge_latent.penalty * x.var(0).mean() * len(x)
  rows = np.concatenate([x - mean_x, np.sqrt(penalty) * np.eye(x.shape[1])])
  targets = np.concatenate([y - mean_y, np.zeros((x.shape[1], y.shape[1]))])
  kernel = np.linalg.lstsq(rows, targets, rcond=None)[0]
  change = (inputs(context) - mean_x) @ kernel + mean_y
  change = np.moveaxis(
    change.reshape(*change.shape[:-1], SPEC.tf, SPEC.channels), 3, 1
  )
  np.testing.assert_allclose(out[:, 0], context[:, -1:] + change, atol=1e-4)


def test_analogue_hands_out_the_nearest_futures_in_order():
  bank = _bank(5)
  context, out = _forecast("analogue", bank, num_samples=7)
  for past, futures in zip(context, out, strict=True):
    apart = [np.linalg.norm(other - past) for other in bank["context"]]
    order = np.argsort(apart)
    np.testing.assert_array_equal(futures[:5], bank["future"][order])
    np.testing.assert_array_equal(futures[5:], bank["future"][order[:2]])


@pytest.mark.parametrize("name", ["linear_latent", "ridge_latent", "analogue"])
def test_only_fitting_gives_parameters(name):
  forecaster = make_forecaster(name, tiny.config(), SPEC, None)
  with pytest.raises(ValueError, match=rf"{name} .* fit"):
    forecaster.init(jax.random.key(0))
  bank = _bank(3)
  with pytest.raises(ValueError, match=f"{name}: the bank's context"):
    forecaster.fit(bank | {"context": bank["context"][:, :2]})
  with pytest.raises(ValueError, match="3 contexts but 2 futures"):
    forecaster.fit(bank | {"future": bank["future"][:2]})


def test_penalty_is_checked():
  cfg = tiny.config()
  cfg.ridge_latent.penalty = 0.0
  with pytest.raises(ValueError, match=r"penalty is 0\.0"):
    make_forecaster("ridge_latent", cfg, SPEC, None)
