"""Which text belongs to which picture: two losses on a table of similarities.

The loss of SigLIP (arXiv 2303.15343) asks of every pair by itself whether it
belongs together, that of CLIP and of VideoPrism's first stage which of all
texts belongs to a video and which video to a text.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from forecasting.shapes import Array, Params

# SigLIP's initial temperature and bias, CLIP's initial temperature.
SIGMOID_SCALE, SIGMOID_BIAS = 10.0, -10.0
SOFTMAX_SCALE = 1 / 0.07


def unit(features: Float[Array, "*B E"]) -> Float[Array, "*B E"]:
  """Returns vectors of length 1."""
  size = jnp.sqrt(jnp.square(features).sum(-1, keepdims=True))
  return features / jnp.maximum(size, 1e-6)


def sigmoid_scales() -> Params:
  """Returns the initial scale, as its logarithm, and bias."""
  return {
    "log_scale": jnp.log(SIGMOID_SCALE),
    "bias": jnp.asarray(SIGMOID_BIAS),
  }


def sigmoid_loss(
  pictures: Float[Array, "B E"], texts: Float[Array, "B E"], scales: Params
) -> Float[Array, ""]:
  """Returns the mean over pictures of the loss over all their pairs."""
  logits = jnp.exp(scales["log_scale"]) * unit(pictures) @ unit(texts).T
  logits = logits + scales["bias"]
  sign = 2.0 * jnp.eye(len(logits)) - 1.0
  return -jax.nn.log_sigmoid(sign * logits).sum() / len(logits)


def softmax_scales() -> Params:
  """Returns the initial scale, as its logarithm."""
  return {"log_scale": jnp.log(SOFTMAX_SCALE)}


def softmax_loss(
  pictures: Float[Array, "B E"], texts: Float[Array, "B E"], scales: Params
) -> Float[Array, ""]:
  """Returns the mean of both cross-entropies."""
  logits = jnp.exp(scales["log_scale"]) * unit(pictures) @ unit(texts).T
  by_picture, by_text = (
    -jnp.diagonal(jax.nn.log_softmax(logits, axis=axis)).mean()
    for axis in (1, 0)
  )
  return (by_picture + by_text) / 2.0


def hits(
  pictures: Float[Array, "B E"], texts: Float[Array, "B E"]
) -> Float[Array, ""]:
  """Returns the share of pictures whose own text is nearest."""
  nearest = jnp.argmax(unit(pictures) @ unit(texts).T, axis=1)
  return (nearest == jnp.arange(len(pictures))).mean()
