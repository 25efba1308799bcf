"""Schedule against its closed form; what decays; one AdamW update by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.config import optimizer_config
from forecasting.training.optimizer import make_optimizer, make_schedule


def closed_form(n, steps, warmup, peak=2e-3, end=0.1):
  if n < warmup:
    return peak * (n + 1) / warmup
  angle = np.pi * (n - warmup) / (steps - warmup)
  return peak * (end + (1 - end) * (1 + np.cos(angle)) / 2)


@pytest.mark.parametrize(
  ("steps", "warmup"), [(40_000, 1000), (200, 20), (6, 0), (1, 0)]
)
def test_schedule_matches_closed_form(steps, warmup):
  schedule = make_schedule(optimizer_config(2e-3, 0.0, 0.95), steps)
  for n in sorted({0, warmup // 2, warmup, steps // 2, steps - 1}):
    expected = closed_form(n, steps, warmup)
    np.testing.assert_allclose(schedule(jnp.int32(n)), expected, rtol=1e-5)
  np.testing.assert_allclose(schedule(jnp.int32(steps)), 2e-4, rtol=1e-5)


def test_peak_is_reached_and_never_exceeded():
  schedule = make_schedule(optimizer_config(2e-3, 0.0, 0.95), 200)
  rates = np.array([schedule(jnp.int32(n)) for n in range(200)])
  assert np.argmax(rates) in (19, 20)
  np.testing.assert_allclose(rates.max(), 2e-3, rtol=1e-6)
  assert np.all(np.diff(rates[20:]) < 0)


def test_only_kernels_decay():
  params = {
    "block": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "embedding": jnp.ones(3),
    "norm": {"scale": jnp.ones(2)},
  }
  cfg = optimizer_config(1e-2, weight_decay=0.5, b2=0.99)
  optimizer = make_optimizer(cfg, steps=1)
  zero = {
    "block": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)},
    "embedding": jnp.zeros(3),
    "norm": {"scale": jnp.zeros(2)},
  }
  updates, _ = optimizer.update(zero, optimizer.init(params), params)
  # Without a gradient only decay moves a parameter: -rate * decay * value.
  np.testing.assert_allclose(updates["block"]["kernel"], -0.005, rtol=1e-6)
  for still in (
    updates["block"]["bias"],
    updates["embedding"],
    updates["norm"]["scale"],
  ):
    np.testing.assert_array_equal(still, 0.0)


@pytest.mark.parametrize("clip_norm", [1.0, 0.0])
def test_two_updates_match_numpy(clip_norm):
  cfg = optimizer_config(1e-2, weight_decay=0.1, b2=0.99)
  cfg.clip_norm = clip_norm
  optimizer = make_optimizer(cfg, steps=4)
  params = {"kernel": jnp.array([1.0, -2.0])}
  state = optimizer.init(params)
  p, m, v = np.array([1.0, -2.0]), 0.0, 0.0
  for n, g in enumerate(np.array([[3.0, -4.0], [0.3, 0.1]])):
    updates, state = optimizer.update({"kernel": jnp.array(g)}, state, params)
    params = {"kernel": params["kernel"] + updates["kernel"]}
    if clip_norm and np.linalg.norm(g) > clip_norm:
      g = g / np.linalg.norm(g) * clip_norm
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
    m_hat, v_hat = m / (1 - 0.9 ** (n + 1)), v / (1 - 0.99 ** (n + 1))
    rate = closed_form(n, 4, 0, peak=1e-2)
    p = p - rate * (m_hat / (np.sqrt(v_hat) + 1e-8) + 0.1 * p)
    np.testing.assert_allclose(params["kernel"], p, rtol=1e-5)
