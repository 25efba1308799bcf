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

from forecasting.backbones.vit import waves
from forecasting.shapes import Array

MODES = ("time", "space_time")


def stamps(places: Float[Array, "*X 3"], channels: int) -> Float[Array, "*X C"]:
  """Returns waves of places, with a mean square of about 1.

  Args:
    places: frame, row and column, counted from 0 in frames and tokens; may lie
      between them.
    channels: C.
  """
  places = jnp.asarray(places, jnp.float32)
  return waves(places, channels) * np.sqrt(2.0)


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
