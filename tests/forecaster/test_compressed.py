"""Forecasts of components."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy

from forecasting.forecaster.compressed import CompressedForecaster
from forecasting.latents.pca import Pca
from forecasting.latents.vae import Vae, init_weights

SPEC = tiny.SPEC
PARAMS = {"offset": jnp.zeros(())}


def _forecaster(components, project_ln=False):
  rng = np.random.default_rng(1)
  basis = np.linalg.qr(rng.normal(size=(SPEC.channels, SPEC.channels)))[0]
  basis = basis[:, :components].astype(np.float32)
  center = tiny.normal(rng, SPEC.channels)
  inner = toy.Toy(dataclasses.replace(SPEC, channels=components), 0.0)
  codec = Pca(basis, center, np.ones(components), np.float32(SPEC.channels))
  forecaster = CompressedForecaster(inner, SPEC, codec, project_ln)
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
  codec = forecaster.codec
  back = codec.decode(codec.encode(jnp.asarray(latents)))
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


def _of_kind(kind):
  """Draws noise in a space of 4 components, bent or not."""
  forecaster, _, _ = _forecaster(4)
  inner = dataclasses.replace(forecaster.inner, noise=1.0)
  codec = forecaster.codec
  if kind == "vae":
    rng = np.random.default_rng(3)
    init = lambda: init_weights(codec, 8, 1e-3, jax.random.key(0))  # noqa: E731
    shapes = jax.eval_shape(init)
    weights = {name: tiny.normal(rng, *x.shape) for name, x in shapes.items()}
    codec = Vae(codec, weights)
  return dataclasses.replace(forecaster, inner=inner, codec=codec)


@pytest.mark.parametrize("kind", ["pca", "vae"])
def test_samples_are_decoded_and_know_neither_batch_nor_number(kind):
  forecaster, data = _of_kind(kind), tiny.batch(3)
  keys = jax.random.split(jax.random.key(0), 3)
  draw = jax.jit(forecaster.sample, static_argnums=4)
  many = draw(PARAMS, data["context"], data["times"], keys, 5)
  few = draw(PARAMS, data["context"][1:2], data["times"][1:2], keys[1:2], 2)
  np.testing.assert_array_equal(few, many[1:2, :2])
  codec = forecaster.codec

  @jax.jit
  def at_once(context):
    past = codec.encode(context)
    drawn = forecaster.inner.sample(PARAMS, past, data["times"], keys, 5)
    return codec.decode(drawn)

  expected = at_once(data["context"])
  np.testing.assert_allclose(many, expected, atol=1e-4, rtol=1e-4)
