"""Where tokens lie and where queries look, as waves of time, row and column.

The official readout learns one embedding per frame and finds places by content
alone. Latents that are normalized token by token may hardly say where they lie
(1.5 % of the variance of 4ds_tiny's), and then a short training never learns to
look at the right one. With `readout.positions = 'space_time'` (our choice)
tokens and queries carry the same waves, so that a query starts by attending to
the tokens around its own place.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from forecasting.shapes import Array

MODES = ("time", "space_time")
LONGEST_WAVE = 30.0  # over the shortest, which turns by 1 rad a frame or token


def waves(places: Float[Array, "*X 3"], channels: int) -> Float[Array, "*X C"]:
  """Returns sines and cosines of places, with a mean square of about 1.

  Args:
    places: frame, row and column, counted from 0 in frames and tokens; may lie
      between them.
    channels: C; a sixth of them for each of the six waves, and zeros for what
      is left.
  """
  count = channels // 6
  rates = LONGEST_WAVE ** (-np.arange(count) / max(count - 1, 1))
  angles = jnp.asarray(places, jnp.float32)[..., None] * rates
  both = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
  flat = both.reshape(*both.shape[:-2], 6 * count) * np.sqrt(2.0)
  rest = channels - flat.shape[-1]
  return jnp.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, rest)])


def token_places(
  num_frames: int, grid: tuple[int, int]
) -> Float[np.ndarray, "T N 3"]:
  """Returns the places of the tokens of every frame, row by row."""
  indices = np.stack(np.indices((num_frames, *grid)), axis=-1)
  return indices.reshape(num_frames, -1, 3).astype(np.float32)


def patch_places(
  num_frames: int, grid: tuple[int, int], patches: tuple[int, int, int]
) -> Float[np.ndarray, "Q 3"]:
  """Returns the centers of the patches of a clip, in the order of queries.

  Args:
    num_frames: T.
    grid: rows and columns of tokens.
    patches: patches along time, rows and columns.
  """
  sizes = np.array([num_frames, *grid]) / np.array(patches)
  indices = np.stack(np.indices(patches), axis=-1).reshape(-1, 3)
  return ((indices + 0.5) * sizes - 0.5).astype(np.float32)


def point_places(
  points: Float[Array, "*X 2"],
  frames: Float[Array, "..."],
  grid: tuple[int, int],
) -> Float[Array, "*X 3"]:
  """Returns the places of image points.

  Args:
    points: (x, y), normalized.
    frames: counted from 0; broadcast against the points.
    grid: rows and columns of tokens.
  """
  points = jnp.asarray(points, jnp.float32)
  rows = points[..., 1] * grid[0] - 0.5
  columns = points[..., 0] * grid[1] - 0.5
  return jnp.stack([jnp.broadcast_to(frames, rows.shape), rows, columns], -1)
