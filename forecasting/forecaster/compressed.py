"""Forecasts of few components of the latents instead of their channels.

The forecaster within never sees channels: its context, target and statistics
are of components, which a codec makes (`latents/pca.py`, `latents/vae.py`).

Source: forecaster.md 7.5.
"""

import dataclasses

import jax
from einops import rearrange
from jaxtyping import Float, Key

from forecasting.forecaster.base import LatentSpec, TrainableForecaster
from forecasting.forecaster.diffusion import each_example
from forecasting.forecaster.transforms import project
from forecasting.latents.scales import Codec
from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples


@dataclasses.dataclass(frozen=True)
class CompressedForecaster:
  """A forecaster of components.

  Attributes:
    inner: the forecaster, of as many channels as there are components.
    spec: shape of the latents.
    codec: between channels and components.
    project_ln: whether samples end in a LayerNorm over channels.
  """

  inner: TrainableForecaster
  spec: LatentSpec
  codec: Codec
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

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log."""
    encode = self.codec.encode
    parts = {name: encode(batch[name]) for name in ("context", "future")}
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

    def decode(components: Array) -> jax.Array:
      latents = self.codec.decode(components)
      return project(latents) if self.project_ln else latents

    past = each_example(self.codec.encode, context)
    drawn = self.inner.sample(params, past, times, keys, num_samples)
    # One by one: neither batch nor number of samples may change rounding.
    flat = rearrange(drawn, "B S ... -> (B S) ...")
    latents = each_example(decode, flat)
    return rearrange(latents, "(B S) ... -> B S ...", S=drawn.shape[1])
