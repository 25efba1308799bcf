"""What a forecaster is: past latents in, samples of future latents out."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Key

from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples


@dataclasses.dataclass(frozen=True)
class LatentSpec:
  """Shape of the latents of one clip.

  Attributes:
    tc: context slots.
    tf: future slots.
    h: latent rows.
    w: latent columns.
    channels: latent channels.
  """

  tc: int
  tf: int
  h: int
  w: int
  channels: int


@runtime_checkable
class Forecaster(Protocol):
  """A model of future latents given past ones.

  Attributes:
    name: its name in configs and result rows.
    trainable: whether it has a `loss` to descend (`TrainableForecaster`).
    deterministic: whether `sample` returns a single future (S = 1) whatever
      `num_samples` says.
    calls: network calls of one sample.
  """

  name: str
  trainable: bool
  deterministic: bool
  calls: int

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters."""
    ...

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures.

    Args:
      params: parameters.
      context: latents of the context.
      times: seconds of all slots, context first.
      keys: one key per example; sample s uses fold_in(key, s).
      num_samples: futures per example.

    Returns:
      Latents of the futures, one per example if `deterministic`. The first of
      many samples equal those of few, whatever else is in the batch.
    """
    ...


@runtime_checkable
class FittedForecaster(Forecaster, Protocol):
  """A forecaster that a bank of training clips determines in closed form."""

  def fit(self, bank: Mapping[str, Array]) -> Params:
    """Returns parameters.

    Args:
      bank: 'context' [M tc h w C] and 'future' [M tf h w C] of training clips.
    """
    ...


@runtime_checkable
class TrainableForecaster(Forecaster, Protocol):
  """A forecaster that is trained by descent."""

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, zero where masked, and scalars to log.

    Args:
      params: parameters.
      batch: 'context' [B tc h w C], 'future' [B tf h w C], 'times' [B tc+tf] in
        seconds, and optionally 'mask' bool [B] and 'example_id' uint32 [B],
        from which the noise of an example then derives instead of from its
        place in the batch.
      key: key of this step.
    """
    ...
