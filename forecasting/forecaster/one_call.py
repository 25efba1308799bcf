"""What forecasters of one network call share: noise, network, samples.

The network gets no noisy latents but a vector of noise of low dimension, which
modulates all its tokens alike: what varies between samples has to be a change
of the whole future. They differ in what several samples of an example, its
members, are trained to do.

Source: forecaster.md 5.3; the noise vector is FGN's (arXiv 2506.10772).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.denoiser import Cache, Denoiser
from forecasting.forecaster.diffusion import (
  each_example,
  in_chunks,
  init_network,
)
from forecasting.forecaster.transforms import Transform
from forecasting.shapes import Array, Context, Params, PRNGKey, Samples

# Axes of [B tf h w C] under one norm: the channels of a latent, those of a
# position in all slots, or the whole future.
NORMS = {"token": (4,), "position": (1, 4), "clip": (1, 2, 3, 4)}


def distance(
  one: Float[Array, "B tf h w C"],
  other: Float[Array, "B tf h w C"],
  norm: str = "token",
) -> Float[Array, "B"]:
  """Returns the mean over an example's vectors of the norm of the difference.

  Args:
    one: futures.
    other: futures.
    norm: one of NORMS, what is one vector.
  """
  square = jnp.sum(jnp.square(one - other), NORMS[norm])
  # Equal futures, as before the first update, are at distance zero, where the
  # gradient is taken to be zero instead of not a number.
  positive = square > 0
  root = jnp.sqrt(jnp.where(positive, square, 1.0))
  return jnp.mean(jnp.where(positive, root, 0.0).reshape(len(one), -1), 1)


@dataclasses.dataclass(frozen=True)
class OneCallForecaster:
  """Turns one vector of noise into one future; its loss is a subclass's.

  Attributes:
    spec: shape of the latents.
    network: the transformer; its `condition_dim` is the size of the noise.
    transform: scales of context and target.
    members: samples of each example in the loss.
    norm: one of NORMS.
    chunk: samples of each example computed at a time, which bounds memory.
    name: a subclass's.
  """

  spec: LatentSpec
  network: Denoiser
  transform: Transform
  members: int = 4
  norm: str = "token"
  chunk: int = 5
  name: str = dataclasses.field(default="", init=False)
  trainable: bool = dataclasses.field(default=True, init=False)
  deterministic: bool = dataclasses.field(default=False, init=False)
  calls: int = dataclasses.field(default=1, init=False)

  def __post_init__(self):
    field = f"forecaster.{self.name}"
    if self.members < 2:
      raise ValueError(
        f"{field}.members is {self.members}: expected at least 2, as the loss"
        " compares them."
      )
    if self.norm not in NORMS:
      raise ValueError(f"{field}.norm is {self.norm!r}: one of {tuple(NORMS)}.")
    if self.network.config.condition_dim < 1:
      raise ValueError(f"{field}.noise_dim must be at least 1.")

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters."""
    return init_network(self.network, self.spec, key)

  def encode(
    self, params: Params, context: Context, times: Float[Array, "B t"]
  ) -> Cache:
    """Returns what all members of an example read of its context."""
    past = self.transform.context(context)
    return self.network.apply(params, past, times, method="encode_context")

  def draw(
    self,
    params: Params,
    cache: Cache,
    times: Float[Array, "B t"],
    keys: Key[Array, "B S"],
  ) -> Float[Array, "B S tf h w C"]:
    """Returns one future per key, in the scale of training."""
    spec, size = self.spec, self.network.config.condition_dim
    normal = lambda key: jax.random.normal(key, (size,))  # noqa: E731
    noise = jax.vmap(jax.vmap(normal))(keys)
    nothing = jnp.zeros((*keys.shape, spec.tf, spec.h, spec.w, spec.channels))
    level = jnp.ones(nothing.shape[:3])
    return self.network.apply(
      params, cache, nothing, level, times, noise, method="denoise"
    )

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures; see `DiffusionForecaster.sample`."""

    def draw(context: Array, times: Array, keys: Array) -> jax.Array:
      cache = self.encode(params, context, times)
      drawn = in_chunks(
        lambda keys: self.draw(params, cache, times, keys),
        keys,
        num_samples,
        self.chunk,
      )
      return self.transform.invert_future(drawn, context)

    return each_example(draw, context, times, keys)
