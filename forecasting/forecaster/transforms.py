"""Scales in which the forecaster works, and the way back to latents.

The context is standardized. The future is either standardized alike
(`target_transform: none`) or expressed as its difference from the last context
slot over the standard deviation of that difference per lead slot and channel
(`residual_last`): a zero prediction is then the persistence forecast exactly.
`residual_linear` takes the difference from the damped linear extrapolation of
the last two slots instead, `residual_model` from a trained forecast: on top of
`residual_last`, see `residual.py`.
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

STATS = ("per_channel", "per_channel_time", "per_element", "none")
TARGET_TRANSFORMS = (
  "residual_last",
  "residual_linear",
  "residual_model",
  "none",
)
# Channels that never vary are left at their scale instead of blown up.
_MIN_STD = 1e-4


@runtime_checkable
class Statistics(Protocol):
  """Statistics of training latents that the transforms read.

  `per_element` and `residual_linear` read further ones, of `latents/scales.py`.

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
    offset: [t 1 1 C] or [t h w C], subtracted from latents.
    scale: likewise, latents are divided by it.
    residual_scale: [tf 1 1 C], or None if the target is not a residual.
    tc: context slots.
    project_ln: whether `invert_future` ends in a LayerNorm over channels.
    factor: [tf 1 1 C] of the extrapolation that residuals are counted from, or
      None to count them from the last slot.
  """

  offset: jax.Array
  scale: jax.Array
  residual_scale: jax.Array | None
  tc: int
  project_ln: bool = False
  factor: jax.Array | None = None

  def _guess(self, context: Context) -> Array:
    """Returns the forecast [B tf|1 h w C] that residuals are counted from."""
    last = context[:, -1:]
    if self.factor is None:
      return last
    before = context[:, max(self.tc - 2, 0), None]
    return last + self.factor * (last - before)

  def context(self, context: Context) -> Context:
    """Standardizes the context."""
    return (context - self.offset[: self.tc]) / self.scale[: self.tc]

  def future(self, future: Future, context: Context) -> Future:
    """Expresses the future as the target of training."""
    if self.residual_scale is None:
      return (future - self.offset[self.tc :]) / self.scale[self.tc :]
    return (future - self._guess(context)) / self.residual_scale

  def invert_future(
    self, target: Float[Array, "B *S tf h w C"], context: Context
  ) -> Float[Array, "B *S tf h w C"]:
    """Returns latents from targets; sample axes may follow the batch axis."""
    if self.residual_scale is None:
      future = target * self.scale[self.tc :] + self.offset[self.tc :]
    else:
      guess = self._guess(context)
      extra = tuple(range(1, 1 + target.ndim - guess.ndim))
      future = target * self.residual_scale + jnp.expand_dims(guess, extra)
    return project(future) if self.project_ln else future

  def without_target(self) -> "Transform":
    """Returns the transform whose futures are taken as they are."""
    offset, scale = self.offset, self.scale
    return dataclasses.replace(
      self,
      offset=offset.at[self.tc :].set(0.0),
      scale=scale.at[self.tc :].set(1.0),
      residual_scale=None,
      factor=None,
      project_ln=False,
    )


def project(latents: jax.Array) -> jax.Array:
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
  mean, std = _moments(stats, spec, statistics)
  residual, factor = statistics.residual_std, None
  if target_transform == "residual_linear":
    residual = _read(statistics, "linear_std", target_transform)
    factor = _read(statistics, "linear_factor", target_transform)
    factor = jnp.asarray(factor, jnp.float32)[:, None, None]
  if jnp.shape(residual) != (spec.tf, channels) or (
    jnp.shape(mean)
    not in (
      (channels,),
      (slots, channels),
      (slots, spec.h, spec.w, channels),
    )
  ):
    raise ValueError(
      f"latent statistics have shapes mean {jnp.shape(mean)} and residual_std"
      f" {jnp.shape(residual)}, but the latents are {spec}: expected"
      f" ({channels},) or ({slots}, {channels}), and ({spec.tf}, {channels})."
      " Recompute them from the store that is being trained on."
    )

  def per_slot(values: Array) -> jax.Array:
    values = jnp.asarray(values, jnp.float32)
    if values.ndim == 4:
      return values
    return jnp.broadcast_to(values, (slots, channels))[:, None, None]

  return Transform(
    offset=per_slot(mean),
    scale=per_slot(_positive(std)),
    residual_scale=(
      None if target_transform == "none" else _positive(residual)[:, None, None]
    ),
    tc=spec.tc,
    project_ln=project_ln,
    factor=factor,
  )


def _moments(
  stats: str, spec: LatentSpec, statistics: Statistics
) -> tuple[Array, Array]:
  """Returns mean and deviation for `config.forecaster.normalize.stats`."""
  if stats == "none":
    return jnp.zeros(spec.channels), jnp.ones(spec.channels)
  prefix = {
    "per_channel": "",
    "per_channel_time": "time_",
    "per_element": "element_",
  }[stats]
  mean, std = (
    _read(statistics, prefix + moment, stats) for moment in ("mean", "std")
  )
  return mean, std


def _read(statistics: Statistics, name: str, word: str) -> Array:
  """Returns a field that not all statistics have."""
  if not hasattr(statistics, name):
    raise ValueError(
      f"forecaster.normalize: {word!r} needs the statistic {name!r}, which the"
      " given ones lack; compute them with latents.scales.compute_scales."
    )
  return getattr(statistics, name)
