"""A variational autoencoder of single tokens: few numbers, not only linearly.

Tokens x become k numbers z with the posterior N(m(x), s(x)^2), and back:

  (1)  m(x) = V^T (x - c) / d + f_m(x),   log s(x)^2 = f_s(x),
       x^(z) = c + V (d z) + r g(z).

V, c and d are the principal components, the center and the deviations of `Pca`
and stay as they are; r is the latents' deviation over all channels. f and g are
perceptrons with two hidden layers, the only parameters. Their last layers start
at zero, so that reconstructions start at those of the principal components and
what is learnt is how the latents bend away from them. Minimized is

  (2)  E |x - x^(z)|^2 / v + b KL(N(m, s^2) | N(0, 1))

with v the latents' variance summed over channels: the first term is the share
of variance that is lost, and b / 2 the share that is taken for noise. The
constant in f_s starts at the best one for principal components,
s_j^2 = b / (2 d_j^2 / v + b).

What is forecast are the means m(x), which no longer have unit variance where
the posterior is wide; their statistics are those of `scales.py`.

Source: forecaster.md 7.5; VFMF (arXiv 2512.11225) forecasts latents of an
autoencoder. Perceptrons per token and the linear part are our choice.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from forecasting.latents.pca import Pca, multiply
from forecasting.shapes import Array, PRNGKey

Weights = Mapping[str, Array]

_MAX_LOG_VARIANCE = 10.0
_MIN_LOG_VARIANCE = -20.0
_MIN_DEVIATION = 1e-6
_LAYERS = 3
_WEIGHTS = "weights/"


class Vae(NamedTuple):
  """An autoencoder around principal components, equation (1).

  Attributes:
    pca: its linear part.
    weights: `<encode or decode>_<layer>_<kernel or bias>` to array.
  """

  pca: Pca
  weights: Weights

  @property
  def kind(self) -> str:
    """Its word in `config.forecaster.compress`."""
    return "vae"

  @property
  def shape(self) -> tuple[int, int]:
    """Numbers of channels and of components."""
    return self.pca.shape

  def posterior(
    self, latents: Float[Array, "*B C"]
  ) -> tuple[Float[Array, "*B k"], Float[Array, "*B k"]]:
    """Returns mean and logarithm of the variance."""
    centered = latents - self.pca.center
    linear = multiply(centered, self.pca.basis) / self._deviation
    out = _perceptron(self.weights, "encode", centered / self._scale)
    shift, log_variance = jnp.split(out, 2, axis=-1)
    log_variance = jnp.clip(log_variance, _MIN_LOG_VARIANCE, _MAX_LOG_VARIANCE)
    return linear + shift, log_variance

  def encode(self, latents: Float[Array, "*B C"]) -> Float[Array, "*B k"]:
    """Returns the means of latents."""
    return self.posterior(latents)[0]

  def decode(self, components: Float[Array, "*B k"]) -> Float[Array, "*B C"]:
    """Returns latents of means or draws."""
    linear = multiply(components * self._deviation, self.pca.basis.T)
    bent = _perceptron(self.weights, "decode", components)
    return self.pca.center + linear + self._scale * bent

  @property
  def _deviation(self) -> Array:
    deviation = self.pca.deviation
    return jnp.where(deviation < _MIN_DEVIATION, 1.0, deviation)

  @property
  def _scale(self) -> Array:
    variance = self.pca.total / len(self.pca.center)
    return jnp.sqrt(jnp.maximum(variance, _MIN_DEVIATION**2))


def init_weights(
  pca: Pca, width: int, kl_weight: float, key: PRNGKey
) -> dict[str, jax.Array]:
  """Returns weights of an autoencoder that reconstructs as `pca` does.

  Args:
    pca: its linear part.
    width: of the hidden layers.
    kl_weight: b of equation (2).
    key: of the hidden layers.
  """
  channels, components = pca.shape
  weights = {}
  for side, inputs, outputs in (
    ("encode", channels, 2 * components),
    ("decode", components, channels),
  ):
    sizes = (inputs, width, width, outputs)
    for layer in range(_LAYERS):
      key, here = jax.random.split(key)
      shape, is_last = sizes[layer : layer + 2], layer == _LAYERS - 1
      kernel = jax.random.normal(here, shape) / np.sqrt(shape[0])
      weights[f"{side}_{layer}_kernel"] = kernel * (not is_last)
      weights[f"{side}_{layer}_bias"] = jnp.zeros(shape[1])
  share = jnp.square(pca.deviation) / jnp.maximum(pca.total, 1e-30)
  variance = kl_weight / (2 * share + kl_weight)
  weights["encode_2_bias"] = jnp.concatenate(
    [jnp.zeros(components), jnp.log(variance)]
  )
  return weights


def _perceptron(weights: Weights, side: str, x: Array) -> jax.Array:
  for layer in range(_LAYERS):
    if layer:
      x = jax.nn.silu(x)
    x = multiply(x, weights[f"{side}_{layer}_kernel"])
    x = x + weights[f"{side}_{layer}_bias"]
  return x


def losses(
  vae: Vae,
  latents: Float[Array, "B *A C"],
  noise: Float[Array, "B *A k"],
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
  """Returns both terms of equation (2), of each example per token.

  Args:
    vae: the autoencoder.
    latents: what to reconstruct.
    noise: standard normal, one draw of each posterior.
  """
  mean, log_variance = vae.posterior(latents)
  drawn = mean + jnp.exp(0.5 * log_variance) * noise
  squared = jnp.sum(jnp.square(latents - vae.decode(drawn)), -1)
  lost = squared / jnp.maximum(vae.pca.total, 1e-30)
  apart = jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1
  divergence = 0.5 * jnp.sum(apart, -1)
  tokens = tuple(range(1, lost.ndim))
  return jnp.mean(lost, tokens), jnp.mean(divergence, tokens)


def to_tensors(vae: Vae) -> dict[str, np.ndarray]:
  """Returns name to array; see `from_tensors`."""
  weights = {_WEIGHTS + name: value for name, value in vae.weights.items()}
  tensors = vae.pca._asdict() | weights
  return {name: np.asarray(value) for name, value in tensors.items()}


def from_tensors(tensors: Mapping[str, Array]) -> Vae:
  """Returns the autoencoder of `to_tensors`.

  Raises:
    TypeError: they are not one's.
  """
  weights = {
    name.removeprefix(_WEIGHTS): value
    for name, value in tensors.items()
    if name.startswith(_WEIGHTS)
  }
  rest = {k: v for k, v in tensors.items() if not k.startswith(_WEIGHTS)}
  return Vae(Pca(**rest), weights)
