"""Corrupts latents, and converts between what a network may predict.

With z_t, t and one of (x0, eps, v) the other two follow (`schedule.py` has the
equations); `CONVERTERS[source, target](path, prediction, z, t)` is the table.
Dividing by sigma at t = 0 or by alpha at t = 1 is the caller's to avoid: those
ends hold no information about the quantity asked for.

A network may also predict `edm`, the correction f of the best guess from z
alone for data of unit variance,

  x0 = alpha / d^2 z + sigma / d f,   f = (sigma x0 - alpha eps) / d,
  d^2 = alpha^2 + sigma^2,

so that its errors fade with the noise: at levels that are hardly trained the
data is read off z instead of being what a network makes of an unknown level.
Source: Karras et al. 2022 (arXiv 2206.00364), their preconditioning.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from forecasting.forecaster.schedule import Path
from forecasting.shapes import Array

PREDICTIONS = ("x0", "eps", "v")
NETWORK_OUTPUTS = (*PREDICTIONS, "edm")


def _expand(coefficient: Array, like: Array) -> jax.Array:
  """Appends axes so that a per-slot coefficient multiplies its latents."""
  coefficient = jnp.asarray(coefficient)
  return jnp.expand_dims(coefficient, tuple(range(coefficient.ndim, like.ndim)))


def corrupt(
  path: Path,
  x0: Float[Array, "*B h w C"],
  eps: Float[Array, "*B h w C"],
  t: Float[Array, "..."],
) -> Float[Array, "*B h w C"]:
  """Returns z_t = alpha(t) x0 + sigma(t) eps; t covers the leading axes."""
  return _expand(path.alpha(t), x0) * x0 + _expand(path.sigma(t), x0) * eps


def velocity(
  path: Path,
  x0: Float[Array, "*B h w C"],
  eps: Float[Array, "*B h w C"],
  t: Float[Array, "..."],
) -> Float[Array, "*B h w C"]:
  """Returns v = alpha_v(t) x0 + sigma_v(t) eps."""
  alpha_v, sigma_v = path.velocity(t)
  return _expand(alpha_v, x0) * x0 + _expand(sigma_v, x0) * eps


def _norm(path: Path, t: Array) -> jax.Array:
  """d: the deviation of z for data of unit variance."""
  return jnp.sqrt(path.alpha(t) ** 2 + path.sigma(t) ** 2)


def edm(
  path: Path,
  x0: Float[Array, "*B h w C"],
  eps: Float[Array, "*B h w C"],
  t: Float[Array, "..."],
) -> Float[Array, "*B h w C"]:
  """Returns f = (sigma(t) x0 - alpha(t) eps) / d(t)."""
  difference = (
    _expand(path.sigma(t), x0) * x0 - _expand(path.alpha(t), x0) * eps
  )
  return difference / _expand(_norm(path, t), x0)


def target(
  path: Path,
  prediction: str,
  x0: Float[Array, "*B h w C"],
  eps: Float[Array, "*B h w C"],
  t: Float[Array, "..."],
) -> Float[Array, "*B h w C"]:
  """Returns what a network with this `prediction` should say."""
  if prediction in ("x0", "eps"):
    return {"x0": x0, "eps": eps}[prediction]
  return {"v": velocity, "edm": edm}[prediction](path, x0, eps, t)


def _edm_to_x0(path: Path, f: Array, z: Array, t: Array) -> jax.Array:
  norm = _norm(path, t)
  guess = _expand(path.alpha(t) / norm**2, z) * z
  return guess + _expand(path.sigma(t) / norm, z) * f


def _x0_to_eps(path: Path, x0: Array, z: Array, t: Array) -> jax.Array:
  return (z - _expand(path.alpha(t), z) * x0) / _expand(path.sigma(t), z)


def _x0_to_v(path: Path, x0: Array, z: Array, t: Array) -> jax.Array:
  _, sigma_v = path.velocity(t)
  return (_expand(sigma_v, z) * z - x0) / _expand(path.sigma(t), z)


def _eps_to_x0(path: Path, eps: Array, z: Array, t: Array) -> jax.Array:
  return (z - _expand(path.sigma(t), z) * eps) / _expand(path.alpha(t), z)


def _eps_to_v(path: Path, eps: Array, z: Array, t: Array) -> jax.Array:
  alpha_v, _ = path.velocity(t)
  return (eps + _expand(alpha_v, z) * z) / _expand(path.alpha(t), z)


def _v_to_x0(path: Path, v: Array, z: Array, t: Array) -> jax.Array:
  _, sigma_v = path.velocity(t)
  return _expand(sigma_v, z) * z - _expand(path.sigma(t), z) * v


def _v_to_eps(path: Path, v: Array, z: Array, t: Array) -> jax.Array:
  alpha_v, _ = path.velocity(t)
  return _expand(path.alpha(t), z) * v - _expand(alpha_v, z) * z


def _unchanged(path: Path, prediction: Array, z: Array, t: Array) -> jax.Array:
  del path, z, t
  return jnp.asarray(prediction)


Converter = Callable[[Path, Array, Array, Array], jax.Array]

CONVERTERS: dict[tuple[str, str], Converter] = {
  ("x0", "eps"): _x0_to_eps,
  ("x0", "v"): _x0_to_v,
  ("eps", "x0"): _eps_to_x0,
  ("eps", "v"): _eps_to_v,
  ("v", "x0"): _v_to_x0,
  ("v", "eps"): _v_to_eps,
  ("edm", "x0"): _edm_to_x0,
} | {(kind, kind): _unchanged for kind in PREDICTIONS}


def error_scale(
  path: Path,
  prediction: str,
  loss_space: str,
  t: Float[Array, "*B"],
  floor: float,
) -> Float[Array, "*B"]:
  """How much an error of the prediction is worth in the space of the loss.

  At fixed z_t errors are proportional: err_x0 = -sigma err_v and
  err_eps = alpha err_v; err_edm = d err_v up to its sign. Divisors are clipped
  from below at `floor`, so a velocity loss on an x0-prediction weighs it by
  1 / max(t, floor)^2.

  Source: forecaster.md 5.1.
  """
  amplitudes = {
    "x0": path.sigma(t),
    "eps": path.alpha(t),
    "v": jnp.ones_like(t),
    "edm": _norm(path, t),
  }
  if prediction == loss_space:
    return jnp.ones_like(t)
  return amplitudes[loss_space] / jnp.maximum(amplitudes[prediction], floor)
