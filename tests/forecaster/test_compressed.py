"""Forecasts of principal components."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import tiny
import toy

from forecasting.forecaster.compressed import CompressedForecaster

SPEC = tiny.SPEC
PARAMS = {"offset": jnp.zeros(())}


def _forecaster(components, project_ln=False):
  rng = np.random.default_rng(1)
  basis = np.linalg.qr(rng.normal(size=(SPEC.channels, SPEC.channels)))[0]
  basis = basis[:, :components].astype(np.float32)
  center = tiny.normal(rng, SPEC.channels)
  inner = toy.Toy(dataclasses.replace(SPEC, channels=components), 0.0)
  forecaster = CompressedForecaster(
    inner, SPEC, jnp.asarray(basis), jnp.asarray(center), project_ln
  )
  return forecaster, basis, center


def _sample(forecaster):
  data = tiny.batch(2)
  keys = jax.random.split(jax.random.key(0), 2)
  out = forecaster.sample(PARAMS, data["context"], data["times"], keys, 2)
  return np.asarray(out), np.asarray(data["context"])


def test_all_components_lose_nothing():
  forecaster, _, _ = _forecaster(SPEC.channels)
  out, context = _sample(forecaster)
  change = context[:, -1] - context[:, -2]
  for slot in range(SPEC.tf):
    expected = context[:, -1] + (slot + 1) * change
    np.testing.assert_allclose(out[:, 0, slot], expected, atol=1e-5, rtol=1e-5)


def test_few_components_keep_what_lies_in_them():
  forecaster, basis, center = _forecaster(2)
  latents = tiny.normal(np.random.default_rng(2), 3, SPEC.channels)
  back = forecaster.expand(forecaster.compress(jnp.asarray(latents)))
  expected = center + (latents - center) @ basis @ basis.T
  np.testing.assert_allclose(back, expected, atol=1e-5)
  batch = tiny.batch(2)
  losses, _ = forecaster.loss({"offset": 1.0}, batch, jax.random.key(0))
  inside = (np.asarray(batch["future"]) - center) @ basis
  np.testing.assert_allclose(losses, inside.mean((1, 2, 3, 4)), atol=1e-5)


def test_samples_may_end_on_the_shell_of_layer_norm():
  out, _ = _sample(_forecaster(4, project_ln=True)[0])
  np.testing.assert_allclose(out.mean(-1), 0, atol=1e-4)
  np.testing.assert_allclose(out.std(-1), 1, atol=1e-3)
