"""Attention of the denoiser: rotary positions, context keys, token groups.

Target tokens carry a sample axis S (samples, or noise draws while training);
context keys and values do not: they are computed once per example and shared.
"""

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from forecasting.shapes import Array

# Angular frequencies: radians per second, and radians per unit of the [-1, 1]
# coordinate of rows and columns. The fastest turn by about pi between
# neighboring slots at 25 frames a second and neighboring tokens of a 16 x 16
# grid; the slowest do not wrap around within a clip. Source: our choice.
_TIME_RANGE = (0.5, 40.0)
_SPACE_RANGE = (0.5, 25.0)
# Parts of a head's dimensions left without position. Source: forecaster.md 7.1.
_MIN_UNROTATED = 4


def frequencies_per_axis(head_dim: int) -> int:
  """Returns how many frequencies each of the three axes gets.

  Raises:
    ValueError: if the head is too narrow to hold one per axis.
  """
  count = (head_dim - _MIN_UNROTATED) // 6
  if count < 1:
    raise ValueError(
      f"heads of {head_dim} dimensions cannot hold 3-axis rotary positions:"
      " forecaster.model.width / heads must be at least 10."
    )
  return count


def _geometric(bounds: tuple[float, float], count: int) -> np.ndarray:
  if count == 1:
    return np.array([np.sqrt(bounds[0] * bounds[1])], np.float32)
  return np.geomspace(*bounds, count, dtype=np.float32)


def rotary_angles(
  times: Float[Array, "B t"], rows: int, columns: int, head_dim: int
) -> Float[Array, "B t N F"]:
  """Returns rotation angles of a grid of tokens.

  Args:
    times: seconds of each slot.
    rows: token rows of a slot.
    columns: token columns of a slot.
    head_dim: dimensions of a head.
  """
  count = frequencies_per_axis(head_dim)
  space = _geometric(_SPACE_RANGE, count)
  y, x = (
    ((np.arange(size) + 0.5) / size * 2 - 1)[:, None] * space
    for size in (rows, columns)
  )
  grid = np.concatenate(
    [np.repeat(y, columns, axis=0), np.tile(x, (rows, 1))], axis=-1
  ).astype(np.float32)
  seconds = times[..., None] * _geometric(_TIME_RANGE, count)
  shape = (*times.shape, rows * columns)
  return jnp.concatenate(
    [
      jnp.broadcast_to(seconds[:, :, None], (*shape, count)),
      jnp.broadcast_to(grid, (*shape, 2 * count)),
    ],
    axis=-1,
  )


def rotate(
  x: Float[Array, "B S t N K d"], angles: Float[Array, "B t N F"]
) -> Float[Array, "B S t N K d"]:
  """Rotates pairs of dimensions; those beyond 2 F stay."""
  count = angles.shape[-1]
  angles = angles[:, None, :, :, None]
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  first, second, rest = jnp.split(x, (count, 2 * count), axis=-1)
  return jnp.concatenate(
    [first * cos - second * sin, first * sin + second * cos, rest], axis=-1
  )


def attend(
  q: Float[Array, "B S L K d"],
  k: Float[Array, "B S M K d"],
  v: Float[Array, "B S M K d"],
  shared_k: Float[Array, "B P K d"] | None = None,
  shared_v: Float[Array, "B P K d"] | None = None,
) -> Float[Array, "B S L K d"]:
  """Softmax attention to a sample's own keys and to those all samples share.

  Logits and softmax are float32 whatever the type of the inputs. Dividing by
  the softmax's sum after the product with the values saves a pass over the
  largest array.
  """
  if shared_k is not None:
    k = _append_shared(k, shared_k)
    v = _append_shared(v, shared_v)
  q, k, v = (einops.rearrange(x, "B S L K d -> B S K L d") for x in (q, k, v))
  logits = jnp.einsum(
    "BSKLd,BSKMd->BSKLM", q, k, preferred_element_type=jnp.float32
  )
  logits *= q.shape[-1] ** -0.5
  peak = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  weights = jnp.exp(logits - peak)
  total = jnp.sum(weights, axis=-1, keepdims=True)
  out = jnp.einsum("BSKLM,BSKMd->BSKLd", weights.astype(v.dtype), v) / total
  return einops.rearrange(out.astype(v.dtype), "B S K L d -> B S L K d")


def _append_shared(
  own: Float[Array, "B S M K d"], shared: Float[Array, "B P K d"]
) -> Float[Array, "B S MP K d"]:
  shape = (*own.shape[:2], *shared.shape[1:])
  return jnp.concatenate(
    [own, jnp.broadcast_to(shared[:, None], shape)], axis=2
  )


def attend_shared(
  q: Float[Array, "B S t N K d"],
  k: Float[Array, "B tc N K d"],
  v: Float[Array, "B tc N K d"],
) -> Float[Array, "B S t N K d"]:
  """Attention of all samples to the context alone."""
  samples, slots = q.shape[1:3]
  out = attend(
    einops.rearrange(q, "B S t N K d -> B 1 (S t N) K d"),
    einops.rearrange(k, "B t N K d -> B 1 (t N) K d"),
    einops.rearrange(v, "B t N K d -> B 1 (t N) K d"),
  )
  return einops.rearrange(
    out, "B 1 (S t N) K d -> B S t N K d", S=samples, t=slots
  )


# How the axes (slot t, position N) fold for each pattern: attention runs over
# the second group, independently for each entry of the first.
_GROUPS = {
  "full": ("B", "(t N)"),
  "spatial": ("(B t)", "N"),
  "temporal": ("(B N)", "t"),
}


def attend_grid(
  pattern: str,
  q: Float[Array, "B S t N K d"],
  k: Float[Array, "B S t N K d"],
  v: Float[Array, "B S t N K d"],
  shared_k: Float[Array, "B tc N K d"] | None = None,
  shared_v: Float[Array, "B tc N K d"] | None = None,
) -> Float[Array, "B S t N K d"]:
  """Attention within all tokens, within slots, or along time.

  Args:
    pattern: 'full'; 'spatial', where a slot sees only itself, so context keys
      are not used; or 'temporal', where a position sees only itself.
    q: queries, positions applied.
    k: keys, positions applied.
    v: values.
    shared_k: keys of the context, or None.
    shared_v: values of the context, or None.

  Returns:
    Attended values on the grid of `q`.
  """
  batch, tokens = _GROUPS[pattern]
  own = f"B S t N K d -> {batch} S {tokens} K d"
  shared = f"B t N K d -> {batch} {tokens} K d"
  if pattern == "spatial":
    shared_k = shared_v = None
  if shared_k is not None:
    shared_k = einops.rearrange(shared_k, shared)
    shared_v = einops.rearrange(shared_v, shared)
  out = attend(
    *(einops.rearrange(x, own) for x in (q, k, v)), shared_k, shared_v
  )
  return einops.rearrange(
    out,
    f"{batch} S {tokens} K d -> B S t N K d",
    B=q.shape[0],
    t=q.shape[2],
    N=q.shape[3],
  )
