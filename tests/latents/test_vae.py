"""The autoencoder of tokens, against loops and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.latents import pca, vae

CHANNELS, COMPONENTS, WIDTH, KL_WEIGHT = 6, 3, 8, 1e-2


@pytest.fixture(scope="module", name="linear")
def fixture_linear():
  """Principal components of the tokens that `_tokens` draws."""
  rng = np.random.default_rng(0)
  tokens = _tokens(rng, 4096).astype(np.float64)
  basis, variances = pca.principal_components([tokens], tokens.mean(0))
  fields = (
    basis[:, :COMPONENTS],
    tokens.mean(0),
    np.sqrt(variances[:COMPONENTS]),
    variances.sum(),
  )
  return pca.Pca(*(np.float32(field) for field in fields))


def _tokens(rng, count):
  mixing = np.random.default_rng(1).normal(size=(CHANNELS, CHANNELS))
  scales = np.array([3, 2, 1, 0.3, 0.2, 0.1])
  rows = rng.normal(size=(count, CHANNELS)) * scales
  return (rows @ np.linalg.qr(mixing)[0] + 1).astype(np.float32)


def _init(linear):
  return vae.init_weights(linear, WIDTH, KL_WEIGHT, jax.random.key(0))


def _random(linear):
  """An autoencoder without zeros."""
  rng = np.random.default_rng(2)
  shapes = jax.eval_shape(_init, linear)
  return vae.Vae(
    linear,
    {
      name: (rng.normal(size=x.shape) / 3).astype(np.float32)
      for name, x in shapes.items()
    },
  )


def _perceptron_by_hand(weights, side, x):
  for layer in range(3):
    if layer:
      x = x / (1 + np.exp(-x))
    kernel, bias = (weights[f"{side}_{layer}_{n}"] for n in ("kernel", "bias"))
    x = np.float64(kernel).T @ x + bias
  return x


def test_losses_by_hand(linear):
  rng, codec = np.random.default_rng(3), _random(linear)
  latents = _tokens(rng, 8).reshape(2, 4, CHANNELS)
  noise = rng.normal(size=(2, 4, COMPONENTS)).astype(np.float32)
  found = jax.jit(vae.losses)(codec, latents, noise)
  basis, center, deviation, total = (np.float64(field) for field in linear)
  scale = np.sqrt(total / CHANNELS)
  lost, divergence = np.zeros((2, 2, 4))
  for b, n in np.ndindex(2, 4):
    x = latents[b, n] - center
    out = _perceptron_by_hand(codec.weights, "encode", x / scale)
    mean = basis.T @ x / deviation + out[:COMPONENTS]
    variance = np.exp(out[COMPONENTS:])
    z = mean + np.sqrt(variance) * noise[b, n]
    bent = _perceptron_by_hand(codec.weights, "decode", z)
    back = basis @ (deviation * z) + scale * bent
    lost[b, n] = ((x - back) ** 2).sum() / total
    terms = mean**2 + variance - 1 - np.log(variance)
    divergence[b, n] = terms.sum() / 2
  np.testing.assert_allclose(found[0], lost.mean(1), rtol=1e-4)
  np.testing.assert_allclose(found[1], divergence.mean(1), rtol=1e-4)


def test_starts_as_principal_components_with_the_best_noise(linear):
  tokens = _tokens(np.random.default_rng(0), 4096)
  weights = jax.jit(_init)(linear)
  weights = {name: np.asarray(value) for name, value in weights.items()}
  codec = vae.Vae(linear, weights)
  means = np.asarray(jax.jit(codec.encode)(tokens))
  basis, center = linear.basis, linear.center
  expected = center + (tokens - center) @ basis @ basis.T
  back = jax.jit(codec.decode)(means)
  np.testing.assert_allclose(back, expected, atol=1e-5)
  # Means have unit variance; what is lost is the rest and the noise.
  np.testing.assert_allclose(means.std(0), 1, rtol=1e-4)
  noise = np.random.default_rng(4).normal(size=(1, 4096, COMPONENTS))
  evaluate = jax.jit(vae.losses)
  lost, divergence = (
    float(term[0]) for term in evaluate(codec, tokens[None], jnp.float32(noise))
  )
  share = linear.deviation**2 / linear.total
  variance = KL_WEIGHT / (2 * share + KL_WEIGHT)
  expected = 1 - linear.explained + (share * variance).sum()
  np.testing.assert_allclose(lost, expected, rtol=0.05)
  np.testing.assert_allclose(
    divergence, (variance - np.log(variance)).sum() / 2, rtol=1e-3
  )
  bias = weights["encode_2_bias"]

  def changed(by):
    moved = bias + np.repeat([0, by], COMPONENTS)
    there = vae.Vae(linear, weights | {"encode_2_bias": moved})
    terms = evaluate(there, tokens[None], jnp.float32(noise))
    return float(terms[0][0] + KL_WEIGHT * terms[1][0])

  assert changed(0.0) < min(changed(-0.5), changed(0.5))


def test_tensors_and_back(linear):
  codec = _random(linear)
  tensors = vae.to_tensors(codec)
  assert all(isinstance(value, np.ndarray) for value in tensors.values())
  jax.tree.map(np.testing.assert_array_equal, vae.from_tensors(tensors), codec)
  del tensors["center"]
  with pytest.raises(TypeError):
    vae.from_tensors(tensors)
