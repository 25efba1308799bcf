"""Patches of a clip: what one query of a dense head stands for.

Queries run time-major, then row, then column; the numbers of a patch run
(frame, row, column, channel) with the channel fastest.

Source: the official 4D representations code.
"""

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Int, Shaped

from forecasting.shapes import Array, PRNGKey

# Frames, rows, columns of one dense query, whatever the backbone's own patch.
PATCH = (2, 8, 8)


def patchify(
  video: Shaped[Array, "B T H W c"], patch: tuple[int, int, int] = PATCH
) -> Shaped[Array, "B P p"]:
  """Cuts clips into patches.

  Args:
    video: frames of any type and number of channels.
    patch: frames, rows and columns of a patch.

  Returns:
    One row per patch.

  Raises:
    ValueError: if the patches do not tile the clip.
  """
  patch_grid(video.shape[1], video.shape[2:4], patch)
  frames, rows, columns = patch
  return einops.rearrange(
    video,
    "B (t pt) (h ph) (w pw) c -> B (t h w) (pt ph pw c)",
    pt=frames,
    ph=rows,
    pw=columns,
  )


def unpatchify(
  patches: Shaped[Array, "B P p"],
  num_frames: int,
  frame_size: tuple[int, int],
  patch: tuple[int, int, int] = PATCH,
) -> Shaped[Array, "B T H W c"]:
  """Puts patches back together.

  Args:
    patches: as `patchify` returns them.
    num_frames: T.
    frame_size: H and W.
    patch: frames, rows and columns of a patch.

  Returns:
    The clips.

  Raises:
    ValueError: if the patches do not tile the clip.
  """
  slots, rows, columns = patch_grid(num_frames, frame_size, patch)
  return einops.rearrange(
    patches,
    "B (t h w) (pt ph pw c) -> B (t pt) (h ph) (w pw) c",
    t=slots,
    h=rows,
    w=columns,
    pt=patch[0],
    ph=patch[1],
    pw=patch[2],
  )


def patch_grid(
  num_frames: int,
  frame_size: tuple[int, int],
  patch: tuple[int, int, int] = PATCH,
) -> tuple[int, int, int]:
  """Returns the number of patches along time, rows and columns.

  Args:
    num_frames: T.
    frame_size: H and W.
    patch: frames, rows and columns of a patch.

  Raises:
    ValueError: if the patches do not tile the clip.
  """
  size = (num_frames, *frame_size)
  if any(a % b for a, b in zip(size, patch, strict=True)):
    raise ValueError(
      f"clips of {size} (frames, rows, columns) do not divide into patches of "
      f"{tuple(patch)}: change readout.patch or data.size"
    )
  return tuple(a // b for a, b in zip(size, patch, strict=True))


def draw_query_index(
  key: PRNGKey, num_queries: int, num: int
) -> Int[Array, "P"] | None:
  """Draws the dense queries of one training step, without repetition.

  One draw serves all clips of the batch, so only those queries are computed.

  Args:
    key: of the step.
    num_queries: P, all queries of the head.
    num: how many to draw; 0, or at least P, stands for all.

  Returns:
    Ascending indices, or None for all queries.

  Source: our choice.
  """
  if not 0 < num < num_queries:
    return None
  return jnp.sort(jax.random.permutation(key, num_queries)[:num])


def gather_patches(
  video: Shaped[Array, "B T H W c"],
  query_index: Int[Array, "Q"],
  patch: tuple[int, int, int] = PATCH,
) -> Shaped[Array, "B Q p"]:
  """Returns the patches of a clip that the queries stand for."""
  return jnp.take(jnp.asarray(patchify(video, patch)), query_index, axis=1)
