"""Outputs -> trajectory vectors, the rows that distribution metrics compare.

| task   | one row per    | row                                     | length  |
|--------|----------------|-----------------------------------------|---------|
| pixels | clip           | frames x 14 x 14 gray cells in [0, 1]   | 12 x 196|
| depth  | clip           | frames x 14 x 14 cells in meters        | 12 x 196|
| points | clip and track | frames x (x, y), normalized             | 12 x 2  |
| boxes  | clip and object| frames x (ymin, xmin, ymax, xmax), norm.| 12 x 4  |

A row is kept or dropped by the truth alone: what a forecast predicts, its
visibility included, never decides. In shapes, R counts rows and V their length.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int

from forecasting.shapes import Array

# 12 x 14 x 14 = 2352 dimensions. Source: paper, appendix.
GRID_SIZE = 14
QUERY_FRAME = 0


@dataclasses.dataclass(frozen=True)
class Vectors:
  """Rows of several forecasts beside the same rows of the truth.

  Attributes:
    pred: forecasts, one row per sample.
    truth: the truth of each row.
    example: index of the clip a row belongs to, ascending.
    track: index of its track or object within the clip; 0 for dense tasks.
    num_examples: clips the rows were taken from, those without any included.
    num_dropped: rows left out because the truth is incomplete.
    num_frames: frames a row spans; its elements are frame-major.
  """

  pred: Float[Array, "R S V"]
  truth: Float[Array, "R V"]
  example: Int[Array, "R"]
  track: Int[Array, "R"]
  num_examples: int
  num_dropped: int
  num_frames: int

  @property
  def num_rows(self) -> int:
    """Rows of the truth."""
    return self.truth.shape[0]

  @property
  def num_samples(self) -> int:
    """Forecasts per row."""
    return self.pred.shape[1]

  def first_sample(self) -> "Vectors":
    """The same rows with the first forecast only."""
    return dataclasses.replace(self, pred=self.pred[:, :1])

  def pooled(self) -> Float[Array, "N V"]:
    """The forecasts of all samples as rows, grouped by row of the truth."""
    return rearrange(self.pred, "r s v -> (r s) v")


def concatenate(parts: Sequence[Vectors]) -> Vectors:
  """Joins the rows of consecutive batches of clips.

  Args:
    parts: vectors of one task, in the order of the clips.

  Returns:
    All rows; clips are counted on from one part to the next.

  Raises:
    ValueError: if there are no parts, or they differ in number of samples,
      frames or length.
  """
  if not parts:
    raise ValueError("parts is empty; expected the vectors of 1 batch or more.")
  layouts = {(p.num_frames, *p.pred.shape[1:]) for p in parts}
  if len(layouts) > 1:
    raise ValueError(
      "parts differ in (frames, samples, length): "
      f"{sorted(layouts)}; score one task and one forecaster at a time."
    )
  starts = np.cumsum([0] + [part.num_examples for part in parts[:-1]])
  return Vectors(
    pred=np.concatenate([part.pred for part in parts]),
    truth=np.concatenate([part.truth for part in parts]),
    example=np.concatenate([p.example + n for p, n in zip(parts, starts)]),
    track=np.concatenate([part.track for part in parts]),
    num_examples=sum(part.num_examples for part in parts),
    num_dropped=sum(part.num_dropped for part in parts),
    num_frames=parts[0].num_frames,
  )


def area_weights(size: int, num_cells: int = GRID_SIZE) -> np.ndarray:
  """How much of every pixel each cell covers along one axis.

  Args:
    size: pixels along the axis.
    num_cells: cells of equal width that share the axis.

  Returns:
    Overlaps [num_cells, size] in units of 1 / num_cells pixel: exact integers,
    so a cell without a valid pixel sums to exactly 0.
  """
  cells = np.arange(num_cells)[:, None] * size
  pixels = np.arange(size)[None, :] * num_cells
  right = np.minimum(cells + size, pixels + num_cells)
  return np.maximum(right - np.maximum(cells, pixels), 0).astype(np.float64)


def pool(
  frames: Float[Array, "*B H W"], num_cells: int = GRID_SIZE
) -> Float[np.ndarray, "*B {num_cells} {num_cells}"]:
  """Area-weighted means over a square grid of cells.

  Args:
    frames: images of any size.
    num_cells: rows and columns of the grid.

  Returns:
    Means; plain averages of blocks where the sizes divide.
  """
  rows = area_weights(frames.shape[-2], num_cells) / frames.shape[-2]
  columns = area_weights(frames.shape[-1], num_cells) / frames.shape[-1]
  return np.matmul(rows, np.matmul(frames, columns.T))


def pixels_vectors(
  pred: Float[Array, "B S Tf H W 3"], target: Float[Array, "B Tf H W 3"]
) -> Vectors:
  """One row per clip: gray levels averaged over a grid of cells.

  Args:
    pred: forecast frames, 1 is white; not clipped.
    target: true frames in [0, 1].

  Returns:
    Rows ordered by frame, row, column.

  Source: paper (14 x 14 cells); the mean over colors is our choice.
  """
  num_frames = target.shape[1]

  def to_rows(video):
    gray = np.asarray(video).mean(axis=-1, dtype=np.float64)
    return rearrange(pool(gray), "... f h w -> ... (f h w)")

  return Vectors(
    pred=np.stack([to_rows(clip) for clip in pred]),
    truth=np.stack([to_rows(clip) for clip in target]),
    example=np.arange(len(target)),
    track=np.zeros(len(target), int),
    num_examples=len(target),
    num_dropped=0,
    num_frames=num_frames,
  )


def depth_vectors(
  pred: Float[Array, "B S Tf H W 1"],
  target: Float[Array, "B Tf H W 1"],
  valid: Bool[Array, "B Tf H W 1"],
) -> Vectors:
  """One row per clip: mean depth of the valid pixels of every cell.

  Args:
    pred: forecast depth in meters, pooled over the true map's valid pixels.
    target: true depth in meters.
    valid: pixels that count, as by `depth.valid_depth`.

  Returns:
    Rows ordered by frame, row, column. A clip with an empty cell is dropped.

  Source: paper (incomplete rows are filtered); applied to depth by our choice.
  """
  valid = np.asarray(valid)[..., 0]
  area = np.stack([pool(mask.astype(np.float64)) for mask in valid])
  keep = (area > 0).all(axis=(-3, -2, -1))
  kept = np.flatnonzero(keep)
  num_frames, num_samples = target.shape[1], pred.shape[1]
  length = num_frames * GRID_SIZE**2
  pred_rows = np.empty((len(kept), num_samples, length))
  true_rows = np.empty((len(kept), length))
  for row, clip in enumerate(kept):
    for source, rows in ((pred, pred_rows), (target, true_rows)):
      meters = np.asarray(source[clip])[..., 0]
      # Invalid pixels may hold NaN, which a weight of 0 would not remove.
      total = pool(np.where(valid[clip], meters, 0.0).astype(np.float64))
      rows[row] = rearrange(total / area[clip], "... f h w -> ... (f h w)")
  return Vectors(
    pred=pred_rows,
    truth=true_rows,
    example=kept,
    track=np.zeros(len(kept), int),
    num_examples=len(keep),
    num_dropped=int((~keep).sum()),
    num_frames=num_frames,
  )


def points_vectors(
  pred_xy: Float[Array, "B S T Q 2"],
  true_xy: Float[Array, "B T Q 2"],
  true_visible: Bool[Array, "B T Q"],
  track_mask: Bool[Array, "B Q"],
  num_context: int = 4,
) -> Vectors:
  """One row per track that is visible at the query and in every future frame.

  Args:
    pred_xy: forecast points, normalized, all frames.
    true_xy: true points, normalized.
    true_visible: true visibility.
    track_mask: False for padding.
    num_context: first future frame.

  Returns:
    Rows ordered by clip, then track: x, y of the first future frame, and so on.

  Source: paper (incomplete trajectories are filtered).
  """
  visible = np.asarray(true_visible)
  keep = visible[:, QUERY_FRAME] & visible[:, num_context:].all(axis=1)
  return _track_rows(
    pred_xy, true_xy, keep & np.asarray(track_mask), track_mask, num_context
  )


def boxes_vectors(
  pred: Float[Array, "B S T Q 4"],
  target: Float[Array, "B T Q 4"],
  box_mask: Bool[Array, "B T Q"],
  object_mask: Bool[Array, "B Q"],
  num_context: int = 4,
) -> Vectors:
  """One row per object that has a true box in every future frame.

  Args:
    pred: forecast boxes (ymin, xmin, ymax, xmax), normalized, all frames.
    target: true boxes.
    box_mask: whether the object has a true box in the frame.
    object_mask: False for padding.
    num_context: first future frame.

  Returns:
    Rows ordered by clip, then object: the first future frame's box, and so on.

  Source: paper (incomplete trajectories are filtered).
  """
  keep = np.asarray(box_mask)[:, num_context:].all(axis=1)
  return _track_rows(
    pred, target, keep & np.asarray(object_mask), object_mask, num_context
  )


def _track_rows(
  pred: Float[Array, "B S T Q c"],
  target: Float[Array, "B T Q c"],
  keep: Bool[Array, "B Q"],
  real: Bool[Array, "B Q"],
  num_context: int,
) -> Vectors:
  """Rows of the kept tracks; `real` ones that are not kept are counted."""
  example, track = np.nonzero(keep)
  pred_future = rearrange(
    np.asarray(pred)[:, :, num_context:], "b s f q c -> b q s (f c)"
  )
  true_future = rearrange(
    np.asarray(target)[:, num_context:], "b f q c -> b q (f c)"
  )
  return Vectors(
    pred=pred_future[example, track].astype(np.float64),
    truth=true_future[example, track].astype(np.float64),
    example=example,
    track=track,
    num_examples=len(keep),
    num_dropped=int((np.asarray(real) & ~keep).sum()),
    num_frames=target.shape[1] - num_context,
  )
