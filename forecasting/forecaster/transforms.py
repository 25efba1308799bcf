"""Scales in which the forecaster works, and the way back to latents.

The context is standardized. The future is either standardized alike
(`target_transform: none`) or expressed as its difference from the last context
slot over the standard deviation of that difference per lead slot and channel
(`residual_last`): a zero prediction is then the persistence forecast exactly.
Dividing the raw difference by its raw deviation equals dividing the
standardized one by its own, so the residual needs no standardization first.

Source: forecaster.md 4; the residual is GenCast's recipe.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from forecasting.forecaster.base import LatentSpec
from forecasting.shapes import Array, Context, Future

STATS = ("per_channel", "per_channel_time", "none")
TARGET_TRANSFORMS = ("residual_last", "none")
# Channels that never vary are left at their scale instead of blown up.
_MIN_STD = 1e-4


@runtime_checkable
class Statistics(Protocol):
  """Statistics of training latents that the transforms read.

  Attributes:
    mean: [C], over clips, slots and positions.
    std: [C].
    time_mean: [t C], per slot of the clip.
    time_std: [t C].
    residual_std: [tf C], of (future slot - last context slot) around zero or
      its mean.
  """

  mean: Array
  std: Array
  time_mean: Array
  time_std: Array
  residual_std: Array


@dataclasses.dataclass(frozen=True)
class IdentityStatistics:
  """Statistics under which every transform but the residual does nothing."""

  mean: Array
  std: Array
  time_mean: Array
  time_std: Array
  residual_std: Array


def identity_statistics(spec: LatentSpec) -> IdentityStatistics:
  """Returns zero means and unit deviations for latents of `spec`."""
  slots = spec.tc + spec.tf
  return IdentityStatistics(
    mean=jnp.zeros(spec.channels),
    std=jnp.ones(spec.channels),
    time_mean=jnp.zeros((slots, spec.channels)),
    time_std=jnp.ones((slots, spec.channels)),
    residual_std=jnp.ones((spec.tf, spec.channels)),
  )


def _positive(std: Array) -> jax.Array:
  std = jnp.asarray(std, jnp.float32)
  return jnp.where(std < _MIN_STD, 1.0, std)


@dataclasses.dataclass(frozen=True)
class Transform:
  """The two directions between latents and the forecaster's scale.

  Attributes:
    offset: [t 1 1 C], subtracted from latents.
    scale: [t 1 1 C], latents are divided by it.
    residual_scale: [tf 1 1 C], or None if the target is not a residual.
    tc: context slots.
    project_ln: whether `invert_future` ends in a LayerNorm over channels.
  """

  offset: jax.Array
  scale: jax.Array
  residual_scale: jax.Array | None
  tc: int
  project_ln: bool = False

  def context(self, context: Context) -> Context:
    """Standardizes the context."""
    return (context - self.offset[: self.tc]) / self.scale[: self.tc]

  def future(self, future: Future, context: Context) -> Future:
    """Expresses the future as the target of training."""
    if self.residual_scale is None:
      return (future - self.offset[self.tc :]) / self.scale[self.tc :]
    return (future - context[:, -1:]) / self.residual_scale

  def invert_future(
    self, target: Float[Array, "B *S tf h w C"], context: Context
  ) -> Float[Array, "B *S tf h w C"]:
    """Returns latents from targets; sample axes may follow the batch axis."""
    if self.residual_scale is None:
      future = target * self.scale[self.tc :] + self.offset[self.tc :]
    else:
      last = context[:, -1:]
      extra = tuple(range(1, 1 + target.ndim - last.ndim))
      future = target * self.residual_scale + jnp.expand_dims(last, extra)
    return _project(future) if self.project_ln else future


def _project(latents: jax.Array) -> jax.Array:
  """Puts latents back on the shell of token-wise LayerNorm."""
  centered = latents - jnp.mean(latents, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
  return centered * jax.lax.rsqrt(variance + 1e-6)


def make_transform(
  spec: LatentSpec,
  statistics: Statistics | None,
  stats: str = "per_channel",
  target_transform: str = "residual_last",
  project_ln: bool = False,
) -> Transform:
  """Builds the transform that `config.forecaster.normalize` describes.

  Args:
    spec: shape of the latents.
    statistics: statistics of the training split; None stands for zero means
      and unit deviations.
    stats: one of STATS.
    target_transform: one of TARGET_TRANSFORMS.
    project_ln: whether samples end in a LayerNorm over channels.

  Returns:
    The transform.

  Raises:
    ValueError: on an unknown word or statistics of another shape.
  """
  if stats not in STATS:
    raise ValueError(
      f"forecaster.normalize.stats is {stats!r}: one of {STATS}."
    )
  if target_transform not in TARGET_TRANSFORMS:
    raise ValueError(
      f"forecaster.normalize.target_transform is {target_transform!r}: one of"
      f" {TARGET_TRANSFORMS}."
    )
  statistics = statistics or identity_statistics(spec)
  slots, channels = spec.tc + spec.tf, spec.channels
  mean, std = {
    "none": (jnp.zeros(channels), jnp.ones(channels)),
    "per_channel": (statistics.mean, statistics.std),
    "per_channel_time": (statistics.time_mean, statistics.time_std),
  }[stats]
  residual = statistics.residual_std
  if jnp.shape(residual) != (spec.tf, channels) or (
    jnp.shape(mean) not in ((channels,), (slots, channels))
  ):
    raise ValueError(
      f"latent statistics have shapes mean {jnp.shape(mean)} and residual_std"
      f" {jnp.shape(residual)}, but the latents are {spec}: expected"
      f" ({channels},) or ({slots}, {channels}), and ({spec.tf}, {channels})."
      " Recompute them from the store that is being trained on."
    )

  def per_slot(values: Array) -> jax.Array:
    values = jnp.asarray(values, jnp.float32)
    return jnp.broadcast_to(values, (slots, channels))[:, None, None]

  return Transform(
    offset=per_slot(mean),
    scale=per_slot(_positive(std)),
    residual_scale=(
      _positive(residual)[:, None, None]
      if target_transform == "residual_last"
      else None
    ),
    tc=spec.tc,
    project_ln=project_ln,
  )
