"""Longer futures than a forecaster was trained for, window by window.

The last slots of what was forecast become the context of the next window.
Generated context differs from observed one, so it may be given noise whose
level the network is told, if it was trained with such noise
(`forecaster.flow.context_noise`).

Source: forecaster.md 8.
"""

import dataclasses

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.forecaster import objective
from forecasting.forecaster.base import Forecaster, LatentSpec
from forecasting.forecaster.diffusion import (
  DiffusionForecaster,
  drawing_exactly,
  each_group,
)
from forecasting.forecaster.shortcut import ShortcutForecaster
from forecasting.shapes import Array, Context, Params, PRNGKey, Samples

# Tells the keys of later windows from those of the first one's noise.
_WINDOW_STREAM = 2**20


def long_spec(spec: LatentSpec, windows: int) -> LatentSpec:
  """Returns the shape of the latents over several windows.

  Args:
    spec: of one window.
    windows: how many futures follow each other.
  """
  return dataclasses.replace(spec, tf=spec.tf * windows)


def with_context_level(forecaster: Forecaster, level: float) -> Forecaster:
  """Returns the forecaster that adds noise to the context it samples from.

  Args:
    forecaster: one that denoises, or one around it; others stay as they are.
    level: noise level of the context, 0 for none.

  Raises:
    ValueError: the forecaster is not trained with such noise.
  """
  if isinstance(forecaster, DiffusionForecaster | ShortcutForecaster):
    return dataclasses.replace(forecaster, context_level=level)
  if hasattr(forecaster, "inner"):
    inner = with_context_level(forecaster.inner, level)
    return dataclasses.replace(forecaster, inner=inner)
  return forecaster


@dataclasses.dataclass(frozen=True)
class Rollout:
  """Forecasts several windows, each from the one before.

  Attributes:
    inner: forecasts one window.
    spec: shape of one window's latents.
    windows: how many.
    context_level: noise level added to generated context.
    chunk: samples of each example in a later window at a time, which bounds
      memory; the first window is the business of `inner`.
  """

  inner: Forecaster
  spec: LatentSpec
  windows: int
  context_level: float = 0.0
  chunk: int = 5

  def __post_init__(self):
    if self.windows < 1:
      raise ValueError(f"rollout of {self.windows} windows: expected 1 or more")
    with_context_level(self.inner, self.context_level)

  @property
  def name(self) -> str:
    """Its name in configs and result rows."""
    return self.inner.name

  @property
  def trainable(self) -> bool:
    """Whether its parameters are trained."""
    return self.inner.trainable

  @property
  def deterministic(self) -> bool:
    """Whether it returns a single future."""
    return self.inner.deterministic

  @property
  def calls(self) -> int:
    """Network calls of one sample."""
    return self.windows * self.inner.calls

  def init(self, key: PRNGKey) -> Params:
    """Returns the parameters of the forecaster within."""
    return self.inner.init(key)

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures; see `Forecaster.sample`.

    Args:
      params: of the forecaster within.
      context: as there.
      times: seconds of all slots of all windows.
      keys: as there.
      num_samples: as there.

    Returns:
      Latents of the futures. The first of many windows equal those of few.
    """
    spec, window = self.spec, self.spec.tc + self.spec.tf
    future = self.inner.sample(
      params, context, times[:, :window], keys, num_samples
    )
    samples = future.shape[1]
    past, seconds = (
      einops.repeat(x, "B ... -> B S ...", S=samples) for x in (context, times)
    )
    slots = jnp.concatenate([past, future], axis=2)
    if self.windows > 1:
      slots = each_group(
        lambda *rows: self._go_on(params, *rows),
        self.chunk,
        slots,
        seconds,
        objective.fold_each(keys, samples),
      )
    return slots[:, :, spec.tc :]

  def _go_on(
    self,
    params: Params,
    slots: Float[Array, "B t h w C"],
    times: Float[Array, "B all"],
    keys: Key[Array, "B"],
  ) -> Float[Array, "B n h w C"]:
    """Appends the later windows to context and first window."""
    spec, window = self.spec, self.spec.tc + self.spec.tf
    later = with_context_level(self.inner, self.context_level)
    later = drawing_exactly(later, 1)
    for number in range(1, self.windows):
      start = number * spec.tf
      seconds = times[:, start : start + window]
      own = jax.vmap(jax.random.fold_in, (0, None))(
        keys, _WINDOW_STREAM + number
      )
      drawn = later.sample(
        params,
        slots[:, start : start + spec.tc],
        seconds - seconds[:, :1],
        own,
        1,
      )
      slots = jnp.concatenate([slots, drawn[:, 0]], axis=1)
    return slots
