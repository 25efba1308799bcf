"""`energy`: one network call a sample, trained with the fair energy score.

The network gets no noisy latents but a vector of noise of low dimension, which
modulates all its tokens alike: what varies between samples has to be a change
of the whole future. Trained are M samples of each example at a time,

  (1)  mean_i |X_i - y| - sum_{i != j} |X_i - X_j| / (2 M (M - 1)),

which for any M >= 2 is unbiased for the score of the distribution they come
from and smallest where that is the true one. The norm runs over channels, or
over more (`NORMS`), and the rest is averaged: a single norm over all latents
hardly sees how they depend on each other.

Source: forecaster.md 5.3; the noise vector is FGN's (arXiv 2506.10772).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.forecaster import objective
from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.denoiser import Cache, Denoiser
from forecasting.forecaster.diffusion import (
  each_example,
  in_chunks,
  init_network,
)
from forecasting.forecaster.transforms import Transform
from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples

# Axes of [B tf h w C] under one norm: the channels of a latent, those of a
# position in all slots, or the whole future.
NORMS = {"token": (4,), "position": (1, 4), "clip": (1, 2, 3, 4)}


def fair_energy_score(
  members: Float[Array, "B S tf h w C"],
  truth: Float[Array, "B tf h w C"],
  norm: str = "token",
) -> Float[Array, "B"]:
  """Returns equation (1) of each example.

  Args:
    members: at least two samples.
    truth: what happened.
    norm: one of NORMS.
  """
  count, axes = members.shape[1], NORMS[norm]

  def distance(one: Array, other: Array) -> jax.Array:
    square = jnp.sum(jnp.square(one - other), axes)
    # Equal members, as before the first update, are at distance zero, where
    # the gradient is taken to be zero instead of not a number.
    positive = square > 0
    root = jnp.sqrt(jnp.where(positive, square, 1.0))
    return jnp.mean(jnp.where(positive, root, 0.0).reshape(len(one), -1), 1)

  error = sum(distance(members[:, i], truth) for i in range(count)) / count
  apart = sum(
    distance(members[:, i], members[:, j])
    for i in range(count)
    for j in range(i)
  )
  return error - apart / (count * (count - 1))


@dataclasses.dataclass(frozen=True)
class EnergyForecaster:
  """Turns one vector of noise into one future.

  Attributes:
    spec: shape of the latents.
    network: the transformer; its `condition_dim` is the size of the noise.
    transform: scales of context and target.
    members: samples of each example in the loss.
    norm: one of NORMS.
    chunk: samples of each example computed at a time, which bounds memory.
  """

  spec: LatentSpec
  network: Denoiser
  transform: Transform
  members: int = 4
  norm: str = "token"
  chunk: int = 5
  name: str = dataclasses.field(default="energy", init=False)
  trainable: bool = dataclasses.field(default=True, init=False)
  deterministic: bool = dataclasses.field(default=False, init=False)
  calls: int = dataclasses.field(default=1, init=False)

  def __post_init__(self):
    if self.members < 2:
      raise ValueError(
        f"forecaster.energy.members is {self.members}: expected at least 2, as"
        " the score compares them."
      )
    if self.norm not in NORMS:
      raise ValueError(
        f"forecaster.energy.norm is {self.norm!r}: one of {tuple(NORMS)}."
      )
    if self.network.config.condition_dim < 1:
      raise ValueError("forecaster.energy.noise_dim must be at least 1.")

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters."""
    return init_network(self.network, self.spec, key)

  def _encode(self, params: Params, context: Array, times: Array) -> Cache:
    past = self.transform.context(context)
    return self.network.apply(params, past, times, method="encode_context")

  def _members(
    self, params: Params, cache: Cache, times: Array, keys: Key[Array, "B S"]
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

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log."""
    truth = self.transform.future(batch["future"], batch["context"])
    keys = objective.fold_each(objective.example_keys(batch, key), self.members)
    cache = self._encode(params, batch["context"], batch["times"])
    members = self._members(params, cache, batch["times"], keys)
    losses = fair_energy_score(members, truth, self.norm)
    mask = batch.get("mask")
    error = jnp.square(jnp.mean(members, 1) - truth)
    spread = jnp.var(members, axis=1, ddof=1)
    aux = {
      "mean_error": objective.masked_mean(jnp.mean(error, (1, 2, 3, 4)), mask),
      "variance": objective.masked_mean(jnp.mean(spread, (1, 2, 3, 4)), mask),
    }
    return objective.mask_examples(losses, mask), aux

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures, one call each; see `DiffusionForecaster.sample`."""

    def draw(context: Array, times: Array, keys: Array) -> jax.Array:
      cache = self._encode(params, context, times)
      drawn = in_chunks(
        lambda keys: self._members(params, cache, times, keys),
        keys,
        num_samples,
        self.chunk,
      )
      return self.transform.invert_future(drawn, context)

    return each_example(draw, context, times, keys)
