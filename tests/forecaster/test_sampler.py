"""Samplers against closed forms: gains, spread, order, mixtures."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.config import forecaster_config
from forecasting.forecaster import ddpm, diagnose, sampler

STDS = (0.05, 0.3, 1.0, 3.0)
LOGSNR = sampler.make_grid("logsnr", 16)
SHIFTED = sampler.make_grid("shifted", 50, shift=22.9)


def _exact(std, z, t):
  return (1 - t) * std**2 * z / ((1 - t) ** 2 * std**2 + t**2)


def _denoiser(std):
  return lambda z, t: _exact(jnp.asarray(std), z, t)


def _drift(std, z, t):
  return (z - _exact(std, z, t)) / t


def _euler_gain(std, times):
  z = 1.0
  for now, new in itertools.pairwise(times):
    z += (new - now) * _drift(std, z, now)
  return z


def _heun_gain(std, times):
  z = 1.0
  for now, new in itertools.pairwise(times):
    slope = _drift(std, z, now)
    ahead = z + (new - now) * slope
    if new > 0:
      slope = (slope + _drift(std, ahead, new)) / 2
    z += (new - now) * slope
  return z


def _dpmpp_gain(std, times):
  """Lu et al. 2022, algorithm 2, written with the paper's lambda and h."""
  lam = [np.log((1 - t) / t) for t in times[:-1]]
  z, previous = 1.0, None
  for k, now in enumerate(times[:-1]):
    x0 = _exact(std, z, now)
    new = times[k + 1]
    if new == 0:
      return x0
    h = lam[k + 1] - lam[k]
    mixed = x0
    if k:
      r = (lam[k] - lam[k - 1]) / h
      mixed = (1 + 1 / (2 * r)) * x0 - previous / (2 * r)
    z = new / now * z - (1 - new) * np.expm1(-h) * mixed
    previous = x0
  return z


@pytest.mark.parametrize(
  ("name", "times", "gain"),
  [
    ("euler", sampler.make_grid("uniform", 50), _euler_gain),
    ("euler", SHIFTED, _euler_gain),
    ("ddim", LOGSNR, _euler_gain),
    ("heun", SHIFTED, _heun_gain),
    ("heun", LOGSNR, _heun_gain),
    ("sde", LOGSNR, _heun_gain),
    ("dpmpp_2m", LOGSNR, _dpmpp_gain),
    ("dpmpp_2m", sampler.make_grid("edm", 12), _dpmpp_gain),
  ],
)
def test_output_std_is_the_product_of_gains(name, times, gain):
  table = sampler.make_table(name, times)
  expected = np.array([gain(std, times) for std in STDS])
  predicted = [diagnose.output_std(table, std) for std in STDS]
  np.testing.assert_allclose(predicted, np.abs(expected), rtol=1e-9)
  keys = jax.random.split(jax.random.key(0), 1)
  start = jax.random.normal(jax.random.fold_in(keys[0], 0), (len(STDS),))
  out = sampler.draw(_denoiser(STDS), table, keys, (len(STDS),))[0]
  np.testing.assert_allclose(out / start, expected, rtol=1e-4)


@pytest.mark.parametrize(
  ("name", "grid", "ratios"),
  [
    ("euler", ("uniform", 50), (0.84, 0.96, 0.98, 0.96)),
    ("euler", ("shifted", 50, 6.9), (0.33, 0.82, 0.94, 0.97)),
    ("euler", ("shifted", 50, 22.9), (0.11, 0.52, 0.82, 0.93)),
    ("heun", ("shifted", 50, 22.9), (0.11, 0.55, 0.90, 0.98)),
    ("ancestral", ("shifted", 50, 22.9), (0.11, 0.49, 0.74, 0.87)),
    ("euler", ("logsnr", 64), (0.95, 0.96, 0.96, 0.96)),
    ("heun", ("logsnr", 16), (1.07, 1.04, 1.00, 0.97)),
    ("dpmpp_2m", ("logsnr", 16), (1.01, 1.03, 1.03, 1.03)),
    ("dpmpp_2m", ("logsnr", 10), (0.98, 1.03, 1.04, 1.05)),
    ("dpmpp_2m", ("logsnr", 32), (1.00, 1.01, 1.01, 1.01)),
  ],
)
def test_table_of_the_reference(name, grid, ratios):
  kind, steps, *shift = grid
  times = sampler.make_grid(kind, steps, shift=shift[0] if shift else 1.0)
  table = sampler.make_table(name, times)
  got = [diagnose.output_std(table, std) / std for std in STDS]
  np.testing.assert_allclose(got, ratios, atol=0.006)


@pytest.mark.parametrize(
  ("name", "times", "std", "pin"),
  [
    ("euler", sampler.make_grid("uniform", 50), 1.0, 0.975),
    ("euler", SHIFTED, 0.3, 0.517),
    ("dpmpp_2m", LOGSNR, 0.05, 1.013),
  ],
)
def test_pins(name, times, std, pin):
  table = sampler.make_table(name, times)
  assert diagnose.output_std(table, std) / std == pytest.approx(pin, abs=5e-4)


def test_default_config_keeps_the_spread():
  cfg = forecaster_config().sampler
  ratios = diagnose.spread_table(cfg)
  assert ratios[0.05] == pytest.approx(1.013, abs=5e-4)
  assert all(abs(ratio - 1) < 0.04 for ratio in ratios.values())
  cfg.grid, cfg.shift = "shifted", 22.9
  assert diagnose.spread_table(cfg)[0.05] < 0.2


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("ddim", {"eta": 0.5}),
    ("sde", {"churn": 8.0, "noise_inflation": 1.05}),
  ],
)
def test_stochastic_samplers_have_the_predicted_spread(name, options):
  table = sampler.make_table(name, LOGSNR, **options)
  assert table.is_stochastic
  keys = jax.random.split(jax.random.key(5), 16)
  out = np.asarray(sampler.draw(_denoiser(0.7), table, keys, (1024,)))
  expected = diagnose.output_std(table, 0.7)
  assert out.std() / expected == pytest.approx(1, abs=4 / np.sqrt(2 * out.size))


def test_noise_inflation_widens():
  plain, inflated = (
    diagnose.output_std(
      sampler.make_table("sde", LOGSNR, churn=8.0, noise_inflation=factor), 0.5
    )
    for factor in (1.0, 1.05)
  )
  assert inflated > 1.01 * plain


def test_ancestral_is_the_posterior_of_ddpm():
  # q(z_new | z_now, x0) in variance-preserving form, Ho et al. 2020 eq. 6-7.
  now, new = 0.6, 0.35
  a, b, c, d, e = sampler.make_table("ancestral", [now, new]).coefficients[0]
  bar = [(1 - t) ** 2 / ((1 - t) ** 2 + t**2) for t in (now, new)]
  alpha = bar[0] / bar[1]
  norm = [np.hypot(1 - t, t) for t in (now, new)]
  variance = (1 - bar[1]) / (1 - bar[0]) * (1 - alpha)
  of_z = np.sqrt(alpha) * (1 - bar[1]) / (1 - bar[0]) * norm[1] / norm[0]
  of_x0 = np.sqrt(bar[1]) * (1 - alpha) / (1 - bar[0]) * norm[1]
  np.testing.assert_allclose(
    [a, b, c, d, e], [of_z, of_x0, 0, 0, np.sqrt(variance) * norm[1]]
  )


@pytest.mark.parametrize(
  ("name", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)]
)
def test_order_of_convergence(name, order):
  def solve(rule, steps):
    times = sampler.make_grid("logsnr", steps + 1, t_max=0.9, t_min=0.1)[:-1]
    return diagnose.output_std(sampler.make_table(rule, times), 0.5)

  reference = solve("heun", 4096)
  counts = [32, 64, 128, 256]
  errors = [abs(solve(name, count) - reference) for count in counts]
  slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
  assert slope == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
  ("name", "steps"), [("dpmpp_2m", 32), ("heun", 32), ("ancestral", 512)]
)
def test_mixture_keeps_its_weights(name, steps):
  means, std = jnp.array([-2.0, 2.0]), 0.2
  weights = jnp.array([0.3, 0.7])

  def x0_hat(z, t):
    variance = (1 - t) ** 2 * std**2 + t**2
    error = z[..., None] - (1 - t) * means
    logits = jnp.log(weights) - error**2 / (2 * variance)
    posterior = means + (1 - t) * std**2 / variance * error
    return jnp.sum(jax.nn.softmax(logits) * posterior, axis=-1)

  count = 4096
  keys = jax.random.split(jax.random.key(6), 4)
  table = sampler.make_table(name, sampler.make_grid("logsnr", steps))
  out = np.asarray(sampler.draw(x0_hat, table, keys, (count // 4,)))
  share = (out > 0).mean()
  assert abs(share - 0.7) < 3 * np.sqrt(0.7 * 0.3 / count)
  np.testing.assert_allclose(np.abs(out[out > 0] - 2).mean(), 0.16, atol=0.05)


def test_grids():
  for name in sampler.GRIDS:
    times = sampler.make_grid(name, 12, shift=3.0)
    assert len(times) == 13 and times[-1] == 0
    assert np.all(np.diff(times) < 0)
  np.testing.assert_allclose(LOGSNR[[0, 15]], [0.998, 0.005])
  np.testing.assert_allclose(
    np.diff(np.diff(np.log(1 / LOGSNR[:-1] - 1))), 0, atol=1e-12
  )
  # A grid shifted by a stops at a / (N - 1 + a).
  assert SHIFTED[-2] == pytest.approx(22.9 / (49 + 22.9))


def test_number_of_calls():
  assert len(sampler.make_table("dpmpp_2m", LOGSNR).times) == 16
  assert len(sampler.make_table("heun", LOGSNR).times) == 31


def test_ddpm_grid_visits_trained_levels():
  times = ddpm.cosine_grid(1000, 50)
  angles = np.arctan2(times[:-1], 1 - times[:-1]) * 2 / np.pi
  index = angles * 1000 - 0.5
  np.testing.assert_allclose(index, np.round(index), atol=0.02)
  assert index[0] == pytest.approx(999, abs=0.02)
  with pytest.raises(ValueError, match=r"ddpm\.steps"):
    ddpm.cosine_grid(10, 11)


@pytest.mark.parametrize(
  ("call", "field"),
  [
    (lambda: sampler.make_grid("linear", 4), "grid"),
    (lambda: sampler.make_grid("logsnr", 0), "steps"),
    (lambda: sampler.make_grid("logsnr", 4, t_min=0.0), "t_min"),
    (lambda: sampler.make_table("rk4", LOGSNR), "name"),
  ],
)
def test_wrong_fields_are_named(call, field):
  with pytest.raises(ValueError, match=field):
    call()
