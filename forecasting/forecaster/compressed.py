"""Forecasts of the latents' principal components instead of their channels.

The forecaster within never sees channels: its context, target and statistics
are of components. With all components the basis is a rotation, and nothing is
lost.

Source: forecaster.md 7.5; DINO-Foresight (arXiv 2412.11673) forecasts the 1152
first of 3072.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.forecaster.base import LatentSpec, TrainableForecaster
from forecasting.forecaster.transforms import project
from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples


@dataclasses.dataclass(frozen=True)
class CompressedForecaster:
  """A forecaster of components.

  Attributes:
    inner: the forecaster, of as many channels as there are components.
    spec: shape of the latents.
    basis: [C k], orthonormal columns.
    center: [C], of the latents.
    project_ln: whether samples end in a LayerNorm over channels.
  """

  inner: TrainableForecaster
  spec: LatentSpec
  basis: jax.Array
  center: jax.Array
  project_ln: bool = False

  @property
  def name(self) -> str:
    """Its name in configs and result rows."""
    return self.inner.name

  @property
  def trainable(self) -> bool:
    """Whether it has a loss to descend."""
    return self.inner.trainable

  @property
  def deterministic(self) -> bool:
    """Whether it returns a single future."""
    return self.inner.deterministic

  @property
  def calls(self) -> int:
    """Network calls of one sample."""
    return self.inner.calls

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters."""
    return self.inner.init(key)

  def compress(self, latents: Float[Array, "*B C"]) -> Float[Array, "*B k"]:
    """Returns the components of latents."""
    return _multiply(latents - self.center, self.basis)

  def expand(self, components: Float[Array, "*B k"]) -> Float[Array, "*B C"]:
    """Returns the latents nearest to the center that have these components."""
    return _multiply(components, self.basis.T) + self.center

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log."""
    parts = {name: self.compress(batch[name]) for name in ("context", "future")}
    return self.inner.loss(params, {**batch, **parts}, key)

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures; see `inner`."""
    drawn = self.inner.sample(
      params, self.compress(context), times, keys, num_samples
    )
    latents = self.expand(drawn)
    return project(latents) if self.project_ln else latents


def _multiply(x: Array, matrix: Array) -> jax.Array:
  # The default precision of accelerators would cost what full rank promises.
  return jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST)
