"""Noise paths z_t = alpha(t) z_0 + sigma(t) eps, t = 0 data, t = 1 noise.

  (1) linear flow          alpha = 1 - t,           sigma = t
  (2) variance preserving  alpha = cos(pi t / 2),   sigma = sin(pi t / 2)
  (3) velocity             v = alpha_v z_0 + sigma_v eps

where (alpha_v, sigma_v) is (-1, 1) on path (1), the time derivative, and
(-sigma, alpha) on path (2), the time derivative over pi / 2. Both satisfy
alpha sigma_v - sigma alpha_v = 1, so one set of conversions serves both
(`process.py`). Everything else here is derived from alpha and sigma.

The ratio sigma / alpha alone decides what a noisy latent says about the data,
so a level of path (2) is a level of path (1) after dividing z by alpha + sigma
(`to_linear`). The samplers therefore only know path (1).
"""

import contextlib
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from forecasting.shapes import Array


@dataclasses.dataclass(frozen=True)
class Path:
  """A noise path over t in [0, 1].

  Attributes:
    name: its name.
    alpha: amplitude of the signal at t.
    sigma: amplitude of the noise at t.
    velocity: (alpha_v, sigma_v) of equation (3) at t.
    from_linear: the time with the log-SNR of a time of the linear path.
  """

  name: str
  alpha: Callable[[Array], jax.Array]
  sigma: Callable[[Array], jax.Array]
  velocity: Callable[[Array], tuple[jax.Array, jax.Array]]
  from_linear: Callable[[Array], jax.Array]


LINEAR = Path(
  name="linear",
  alpha=lambda t: 1.0 - jnp.asarray(t),
  sigma=jnp.asarray,
  velocity=lambda t: (-jnp.ones_like(t), jnp.ones_like(t)),
  from_linear=jnp.asarray,
)

# Source: Nichol & Dhariwal 2021 without their offset: `ddpm.py` never visits
# the ends, which is what the offset is for.
COSINE = Path(
  name="cosine",
  alpha=lambda t: jnp.cos(0.5 * jnp.pi * t),
  sigma=lambda t: jnp.sin(0.5 * jnp.pi * t),
  velocity=lambda t: (-jnp.sin(0.5 * jnp.pi * t), jnp.cos(0.5 * jnp.pi * t)),
  from_linear=lambda t: jnp.arctan2(t, 1.0 - t) * (2.0 / jnp.pi),
)


def log_snr(path: Path, t: Float[Array, "*B"]) -> Float[Array, "*B"]:
  """Returns log(alpha^2 / sigma^2)."""
  return 2.0 * (jnp.log(path.alpha(t)) - jnp.log(path.sigma(t)))


def to_linear(path: Path, t: Float[Array, "*B"]) -> Float[Array, "*B"]:
  """Returns the time of the linear path with the same log-SNR."""
  alpha, sigma = path.alpha(t), path.sigma(t)
  return sigma / (alpha + sigma)


def shift_times(t: Float[Array, "*B"], shift: float) -> Float[Array, "*B"]:
  """Moves times towards noise: t <- a t / (1 + (a - 1) t).

  Source: forecaster.md 5.2. `shift` = 1 changes nothing.
  """
  return shift * t / (1.0 + (shift - 1.0) * t)


def ladder(
  progress: Float[Array, "*B"],
  slots: int,
  t_min: float = 0.005,
  t_max: float = 0.998,
) -> Float[Array, "*B tf"]:
  """Returns noise levels that rise with lead time, on the linear path.

  Slot j is at place x_j = (j + 1 - u) / slots, and its level t(x) uniform in
  log((1 - t) / t) with t(1) = t_max, t(0+) = t_min and t(0) = 0. While u goes
  from 0 to 1 each slot falls to the level of the slot before.

  Args:
    progress: u.
    slots: of the window.
    t_min: level next to zero.
    t_max: level of a slot that enters.
  """
  places = (jnp.arange(slots) + 1 - jnp.asarray(progress)[..., None]) / slots
  low, high = (np.log(t / (1 - t)) for t in (t_min, t_max))
  levels = jax.nn.sigmoid(low + (high - low) * places)
  # Places are multiples of 1 / slots less a rounding where u = 1.
  return jnp.where(places > 1e-6, levels, 0.0)


def resolve_shift(
  shift: str | float | int, tf: int, tokens_per_slot: int, channels: int
) -> float:
  """Turns the configured shift of the training noise levels into a number.

  Args:
    shift: 'auto_slot' and 'auto_full' give sqrt(d / 4096) with d counted over
      one latent slot or over all of them; a number, or one in words, is taken
      as it is.
    tf: latent slots forecast.
    tokens_per_slot: latent tokens of one slot.
    channels: latent channels.

  Returns:
    The factor a of `shift_times`.

  Raises:
    ValueError: if `shift` is neither of the two words nor a positive number.
  """
  slot = tokens_per_slot * channels
  sizes = {"auto_slot": slot, "auto_full": slot * tf}
  if shift in sizes:
    return float(np.sqrt(sizes[shift] / 4096))
  # The field holds a word by default, so overrides of it arrive as words too.
  with contextlib.suppress(ValueError):
    if 0 < float(shift) < np.inf:
      return float(shift)
  raise ValueError(
    f"forecaster.flow.shift is {shift!r}: expected 'auto_slot', 'auto_full' or"
    " a positive number."
  )
