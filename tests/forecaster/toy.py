"""Forecasters and networks without layers, for what is built around them."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.denoiser import Denoiser
from forecasting.forecaster.objective import fold_each


@dataclasses.dataclass(frozen=True)
class Toy:
  """Continues the last change, plus `noise` that is the same in all latents.

  Its loss is the mean of what it is given as future, times a parameter.
  """

  spec: LatentSpec
  noise: float = 1.0
  deterministic: bool = False
  name: str = "toy"
  trainable: bool = True
  calls: int = 3

  def init(self, key):
    return {"offset": jax.random.normal(key)}

  def loss(self, params, batch, key):
    del key
    mean = jnp.mean(batch["future"], (1, 2, 3, 4))
    return params["offset"] * mean, {"mean": jnp.mean(mean)}

  def sample(self, params, context, times, keys, num_samples):
    steps = jnp.arange(1, self.spec.tf + 1)[:, None, None, None]
    change = context[:, -1:] - context[:, -2:-1]
    line = context[:, -1:] + steps * change + params["offset"]
    samples = 1 if self.deterministic else num_samples
    normal = jax.vmap(jax.vmap(jax.random.normal))
    drawn = normal(fold_each(keys, samples))
    return line[:, None] + self.noise * drawn[..., None, None, None, None]


class RandomWalk(Denoiser):
  """Exact for slots that are sums of independent standard normal steps.

  It predicts the data and takes any levels, one per slot.
  """

  def apply(self, params, *args, method=None):
    del params
    if method == "encode_context":
      return {}
    _, z, levels, _ = args
    slots = jnp.arange(z.shape[2])
    covariance = 1.0 + jnp.minimum(slots, slots[:, None])
    alpha = 1 - levels
    total = alpha[..., None] * covariance * alpha[..., None, :]
    total += jnp.eye(len(slots)) * jnp.square(levels)[..., None]
    # At level zero a slot is its own data: the other equations stay solvable.
    gain = covariance * alpha[..., None, :] @ jnp.linalg.inv(total)
    return jnp.einsum("bstu,bsuhwc->bsthwc", gain, z)


class Counting(Denoiser):
  """Answers with what it is given, and counts samples times calls."""

  rows: ClassVar[list[int]] = []

  def apply(self, params, *args, method=None):
    del params
    if method == "encode_context":
      return {}
    z = args[1]
    note = lambda z: self.rows.append(z.shape[0] * z.shape[1])  # noqa: E731
    jax.debug.callback(note, z)
    return 0.5 * z


def count_rows(forecaster, params, *inputs):
  """Returns samples times calls of drawing with `Counting` networks."""
  Counting.rows.clear()
  jax.block_until_ready(forecaster.sample(params, *inputs))
  jax.effects_barrier()
  return sum(Counting.rows)


class Constant(Denoiser):
  """Answers with its parameter everywhere."""

  def apply(self, params, context, z, levels, times):
    del context, levels, times
    return jnp.broadcast_to(params["value"], z.shape)

  def init(self, key, *args):
    del args
    return {"value": jax.random.normal(key)}


class Scaled(Denoiser):
  """Answers with its noise, of as many numbers as channels, times a parameter.

  It is the same everywhere.
  """

  def apply(self, params, *args, method=None):
    if method == "encode_context":
      return {}
    _, nothing, _, _, noise = args
    noise = noise[:, :, None, None, None]
    return params["scale"] * jnp.broadcast_to(noise, nothing.shape)
