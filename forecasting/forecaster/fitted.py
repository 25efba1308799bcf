"""Baselines that learn from a bank of training clips in closed form.

`linear_latent` extrapolates, `ridge_latent` is the best linear forecast of a
latent from the same place in the context, `analogue` hands out the futures of
the training clips that look most alike, and `climatology` (`baselines.py`)
those of any.

Source: forecaster.md 9.
"""

import dataclasses
from collections.abc import Mapping

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from forecasting.forecaster.base import LatentSpec
from forecasting.shapes import Array, Context, Params, PRNGKey, Samples

Bank = Mapping[str, Array]


def check_bank(name: str, bank: Bank, spec: LatentSpec) -> None:
  """Raises ValueError unless a bank holds clips of `spec`.

  Args:
    name: of the baseline, for the message.
    bank: 'context' [M tc h w C] and 'future' [M tf h w C].
    spec: shape of the latents.
  """
  grid = (spec.h, spec.w, spec.channels)
  for part, slots in (("context", spec.tc), ("future", spec.tf)):
    shape = bank[part].shape
    if shape[1:] != (slots, *grid) or not len(bank[part]):
      raise ValueError(
        f"{name}: the bank's {part} has shape {shape}, expected"
        f" (M, {slots}, *{grid}) with M >= 1."
      )
  if len(bank["context"]) != len(bank["future"]):
    raise ValueError(
      f"{name}: the bank has {len(bank['context'])} contexts but"
      f" {len(bank['future'])} futures."
    )


@dataclasses.dataclass(frozen=True)
class Fitted:
  """What baselines that are fitted to a bank share."""

  spec: LatentSpec
  trainable: bool = dataclasses.field(default=False, init=False)
  calls: int = dataclasses.field(default=0, init=False)

  def init(self, key: PRNGKey) -> Params:
    """Refuses: there is nothing to forecast with yet.

    Raises:
      ValueError: always.
    """
    del key
    raise ValueError(f"{self.name} has no initial parameters: call fit(bank).")


@dataclasses.dataclass(frozen=True)
class LinearLatent(Fitted):
  """Damped linear extrapolation: last + f_k (last - slot before).

  The factor f_k of each future slot minimizes the squared error over the bank;
  it is k without damping. A context of one slot has no velocity, which leaves
  persistence.

  Attributes:
    spec: shape of the latents.
  """

  name: str = dataclasses.field(default="linear_latent", init=False)
  deterministic: bool = dataclasses.field(default=True, init=False)

  def fit(self, bank: Bank) -> Params:
    """Fits the factors in float64.

    Args:
      bank: 'context' [M tc h w C] and 'future' [M tf h w C] of training clips.

    Returns:
      Parameters for `sample`.

    Raises:
      ValueError: if the bank is empty or its latents are of another shape.
    """
    check_bank(self.name, bank, self.spec)
    product, square = np.zeros(self.spec.tf), 0.0
    for context, future in zip(bank["context"], bank["future"], strict=True):
      context, future = _double(context), _double(future)
      speed = _speed(context)
      product += np.einsum("thwC,hwC->t", future - context[-1], speed)
      square += np.sum(speed**2)
    return {"factor": jnp.asarray(product / max(square, 1e-30), jnp.float32)}

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Returns the one future."""
    del times, keys, num_samples
    speed = jax.vmap(_speed)(jnp.asarray(context))
    change = jnp.einsum("t,BhwC->BthwC", params["factor"], speed)
    return (context[:, -1:] + change)[:, None]


def _double(latents: Array) -> np.ndarray:
  return np.asarray(latents, np.float64)


def _speed(context: Array) -> Array:
  """Returns the last change of one context, zero if it has one slot."""
  return context[-1] - context[max(len(context) - 2, 0)]


@dataclasses.dataclass(frozen=True)
class RidgeLatent(Fitted):
  """Linear forecast of each latent token from the context at its place.

  One map for all places, from the last slot and the changes that led to it, to
  the change of each future slot from the last.

  Attributes:
    spec: shape of the latents.
    penalty: added to the inputs' mean variance times this.
  """

  penalty: float = 1e-2
  name: str = dataclasses.field(default="ridge_latent", init=False)
  deterministic: bool = dataclasses.field(default=True, init=False)

  def __post_init__(self):
    if not self.penalty > 0:
      raise ValueError(
        f"forecaster.ridge_latent.penalty is {self.penalty}: expected a"
        " positive number."
      )

  def fit(self, bank: Bank) -> Params:
    """Solves for the map in float64, reading one clip after the other.

    Args:
      bank: 'context' [M tc h w C] and 'future' [M tf h w C] of training clips.

    Returns:
      Parameters for `sample`.

    Raises:
      ValueError: if the bank is empty or its latents are of another shape.
    """
    spec = self.spec
    check_bank(self.name, bank, spec)
    size = spec.tc * spec.channels + 1
    # The last input is 1; its products are the sums that center all others.
    gram = np.zeros((size, size))
    cross = np.zeros((size, spec.tf * spec.channels))
    for context, future in zip(bank["context"], bank["future"], strict=True):
      context, future = _double(context), _double(future)
      x = einops.rearrange(_inputs(context), "t h w C -> (h w) (t C)")
      x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
      y = einops.rearrange(future - context[-1], "t h w C -> (h w) (t C)")
      gram += x.T @ x
      cross += x.T @ y
    rows = gram[-1, -1]
    mean_x, mean_y = gram[-1, :-1] / rows, cross[-1] / rows
    covariance = gram[:-1, :-1] / rows - np.outer(mean_x, mean_x)
    covariance_xy = cross[:-1] / rows - np.outer(mean_x, mean_y)
    penalty = self.penalty * max(np.trace(covariance) / (size - 1), 1e-30)
    kernel = np.linalg.solve(
      covariance + penalty * np.eye(size - 1), covariance_xy
    )
    return {
      "kernel": jnp.asarray(kernel, jnp.float32),
      "bias": jnp.asarray(mean_y - mean_x @ kernel, jnp.float32),
    }

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Returns the one future."""
    del times, keys, num_samples
    context = jnp.asarray(context)
    x = einops.rearrange(jax.vmap(_inputs)(context), "B t h w C -> B h w (t C)")
    change = x @ params["kernel"] + params["bias"]
    change = einops.rearrange(
      change, "B h w (t C) -> B t h w C", t=self.spec.tf
    )
    return (context[:, -1:] + change)[:, None]


def _inputs(context: Array) -> Array:
  """Returns the last slot and the changes before it, of one context."""
  module = jnp if isinstance(context, jax.Array) else np
  changes = context[1:] - context[:-1]
  return module.concatenate([context[-1:], changes])


@dataclasses.dataclass(frozen=True)
class Analogue(Fitted):
  """The true futures of the training contexts nearest to a context.

  Sample s is the future that followed the s-th nearest context by Euclidean
  distance of all latents; a bank smaller than the samples is gone through
  again.

  Attributes:
    spec: shape of the latents.
  """

  name: str = dataclasses.field(default="analogue", init=False)
  deterministic: bool = dataclasses.field(default=False, init=False)

  def fit(self, bank: Bank) -> Params:
    """Keeps the bank.

    Args:
      bank: 'context' [M tc h w C] and 'future' [M tf h w C] of training clips.

    Returns:
      Parameters for `sample`.

    Raises:
      ValueError: if the bank is empty or its latents are of another shape.
    """
    check_bank(self.name, bank, self.spec)
    return {part: jnp.asarray(bank[part]) for part in ("context", "future")}

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Returns the futures of the nearest contexts, nearest first."""
    del times, keys
    known = params["context"]

    def distances(context: Array) -> jax.Array:
      # Differences first: products of whole contexts would cancel.
      apart = lambda other: jnp.sum(jnp.square(other - context))  # noqa: E731
      return jax.lax.map(apart, known)

    nearest = jax.vmap(lambda x: jnp.argsort(distances(x)))(context)
    order = jnp.arange(num_samples) % len(known)
    return params["future"][nearest[:, order]]
