"""Streaming: noise that rises with lead time, one slot finished at a time.

All slots of the window are noisy at once, the next one little and the last one
fully. A few steps of the sampler take every slot to the level of the slot
before it; the first one is then clean, leaves the window and joins the context,
and fresh noise enters at the end:

  step of a slot from t to t'     z <- (t' / t) z + (1 - t' / t) x0_hat(z, t)

The first window starts from a joint forecast of all its slots, noised again to
these levels. The network is asked for levels that differ between slots, which
it should have been trained with: `forecaster.flow.rolling`.

Source: rolling diffusion (arXiv 2402.09470), forecaster.md 8; the levels
(`schedule.ladder`) are our choice.
"""

import dataclasses
from typing import NamedTuple

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.forecaster import objective
from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.diffusion import (
  DiffusionForecaster,
  drawing_exactly,
  each_example,
  each_group,
)
from forecasting.forecaster.schedule import ladder
from forecasting.shapes import Array, Context, Params, PRNGKey, Samples

# Tells the keys of slots that enter the window from those of the first window.
_SLOT_STREAM = 2**21


class Stream(NamedTuple):
  """A forecast under way, of S = 1 future of each example.

  Attributes:
    context: the last slots that are known or finished, as latents.
    window: noisy slots in the forecaster's scale, counted from the context's
      last slot.
    key: of each example.
    emitted: slots finished so far.
  """

  context: Float[Array, "B tc h w C"]
  window: Float[Array, "B tf h w C"]
  key: Key[Array, "B"]
  emitted: jax.Array


@dataclasses.dataclass(frozen=True)
class Pyramid:
  """Streams futures of any length from a forecaster that denoises.

  Attributes:
    inner: the forecaster.
    slots: future slots that `sample` returns.
    steps_per_slot: network calls between two finished slots.
    t_min: level next to zero.
    t_max: level of a slot that enters.
  """

  inner: DiffusionForecaster
  slots: int
  steps_per_slot: int = 4
  t_min: float = 0.005
  t_max: float = 0.998
  trainable: bool = dataclasses.field(default=True, init=False)
  deterministic: bool = dataclasses.field(default=False, init=False)

  def __post_init__(self):
    if self.steps_per_slot < 1:
      raise ValueError(
        f"forecaster.horizon.steps_per_slot is {self.steps_per_slot}: expected"
        " 1 or more"
      )

  @property
  def name(self) -> str:
    """Its name in configs and result rows."""
    return self.inner.name

  @property
  def spec(self) -> LatentSpec:
    """Shape of the latents of one window."""
    return self.inner.spec

  @property
  def calls(self) -> int:
    """Network calls of one sample."""
    return self.inner.calls + self.slots * (self.steps_per_slot + 1)

  def init(self, key: PRNGKey) -> Params:
    """Returns the parameters of the forecaster within."""
    return self.inner.init(key)

  def _levels(self, progress: Float[Array, ""]) -> jax.Array:
    """Returns the level of every slot when `progress` u of a shift is done."""
    return ladder(progress, self.spec.tf, self.t_min, self.t_max)

  def start(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
  ) -> Stream:
    """Forecasts the first window and noises it to the ladder.

    Args:
      params: of the forecaster within.
      context: latents of the context.
      times: seconds of the slots of one window.
      keys: one per example.
    """
    # `sample` calls this one example at a time on CPU, as its own would again.
    joint = drawing_exactly(self.inner, 1).sample_batch
    future = joint(params, context, times, keys, 1)[:, 0]
    x0 = self.inner.transform.future(future, context)
    noise = self._noise(keys, _SLOT_STREAM, x0.shape[1:])
    levels = jnp.broadcast_to(self._levels(jnp.zeros(())), x0.shape[:2])
    window = _mix(x0, noise, levels)
    return Stream(context, window, keys, jnp.zeros((), jnp.int32))

  def advance(
    self, params: Params, stream: Stream, times: Float[Array, "B t"]
  ) -> tuple[Stream, Float[Array, "B h w C"]]:
    """Finishes one slot.

    Args:
      params: of the forecaster within.
      stream: of `start` or `advance`.
      times: seconds of the slots of one window, evenly spaced.

    Returns:
      The stream moved on by a slot, and the latents of the finished slot.
    """
    inner, steps = self.inner, self.steps_per_slot
    past = inner.transform.context(stream.context)
    cache = inner.encode_context(params, past, times)

    def step(window: Array, number: Array) -> tuple[jax.Array, None]:
      now = self._levels(number / steps)
      new = self._levels((number + 1) / steps)
      levels = jnp.broadcast_to(now, window.shape[:2])
      x0 = inner.x0_hat(params, cache, window[:, None], levels[:, None], times)
      ratio = (new / now)[:, None, None, None]
      return ratio * window + (1 - ratio) * x0[:, 0], None

    window, _ = jax.lax.scan(step, stream.window, jnp.arange(steps))
    # Residuals are counted from another slot now, over another lead time's
    # deviation. A noisy slot is moved as the mixture of what the network takes
    # for its data and its noise: exact where only the slot changes.
    levels = jnp.broadcast_to(self._levels(jnp.ones(())), window.shape[:2])
    clean = inner.x0_hat(params, cache, window[:, None], levels[:, None], times)
    clean = jnp.where(levels[..., None, None, None] > 0, clean[:, 0], window)
    noise = _noise_of(window, clean, levels)
    future = inner.transform.invert_future(clean, stream.context)
    context = jnp.concatenate([stream.context[:, 1:], future[:, :1]], axis=1)
    moved = jnp.concatenate([future[:, 1:], future[:, -1:]], axis=1)
    x0 = inner.transform.future(moved, context)
    fresh = self._noise(
      stream.key, _SLOT_STREAM + 1 + stream.emitted, window.shape[2:]
    )
    noise = jnp.concatenate([noise[:, 1:], fresh[:, None]], axis=1)
    levels = jnp.broadcast_to(self._levels(jnp.zeros(())), window.shape[:2])
    stream = Stream(
      context, _mix(x0, noise, levels), stream.key, stream.emitted + 1
    )
    return stream, future[:, 0]

  def _noise(
    self, keys: Key[Array, "B"], number: int | Array, shape: tuple[int, ...]
  ) -> jax.Array:
    draw = lambda key: jax.random.normal(  # noqa: E731
      jax.random.fold_in(key, number), shape
    )
    return jax.vmap(draw)(keys)

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures of `slots` slots; see `Rollout.sample`."""
    window = self.spec.tc + self.spec.tf

    def draw(context: Array, times: Array, keys: Array) -> jax.Array:
      def emit(stream: Stream, _: None) -> tuple[Stream, jax.Array]:
        return self.advance(params, stream, times)

      stream = self.start(params, context, times, keys)
      _, slots = jax.lax.scan(emit, stream, length=self.slots)
      return einops.rearrange(slots, "t B h w C -> B t h w C")

    rows = [
      einops.repeat(x, "B ... -> B S ...", S=num_samples)
      for x in (context, times[:, :window])
    ]
    return each_group(
      lambda *rows: each_example(draw, *rows),
      self.inner.chunk,
      *rows,
      objective.fold_each(keys, num_samples),
    )


def _mix(x0: Array, noise: Array, levels: Array) -> jax.Array:
  levels = levels[..., None, None, None]
  return (1 - levels) * x0 + levels * noise


def _noise_of(z: Array, x0: Array, levels: Array) -> jax.Array:
  """Returns the noise in z, zero where there is none."""
  levels = levels[..., None, None, None]
  noise = (z - (1 - levels) * x0) / jnp.where(levels > 0, levels, 1.0)
  return jnp.where(levels > 0, noise, 0.0)
