"""Intersection over union of forecast boxes (boxes task)."""

import numpy as np
from jaxtyping import Bool, Float

from forecasting.shapes import Array

QUERY_FRAME = 0


def pair_iou(
  pred: Float[Array, "*B Q 4"], target: Float[Array, "*#B Q 4"]
) -> Float[np.ndarray, "*B Q"]:
  """IoU of pairs of boxes.

  Args:
    pred: (ymin, xmin, ymax, xmax); an inverted box has no area.
    target: boxes of the same layout and unit, broadcast against `pred`.

  Returns:
    Values in [0, 1]; 0 where the union is empty, NaN for a non-finite box.
  """
  pred = np.asarray(pred, np.float64)
  target = np.asarray(target, np.float64)
  with np.errstate(invalid="ignore", over="ignore"):
    corner = np.maximum(pred[..., :2], target[..., :2])
    opposite = np.minimum(pred[..., 2:], target[..., 2:])
    overlap = np.maximum(opposite - corner, 0.0).prod(axis=-1)
    union = _area(pred) + _area(target) - overlap
    iou = np.where(union > 0, overlap / np.where(union > 0, union, 1.0), 0.0)
  is_finite = np.isfinite(pred).all(-1) & np.isfinite(target).all(-1)
  return np.where(is_finite, iou, np.nan)


def mean_iou(
  pred: Float[Array, "B S T Q 4"],
  target: Float[Array, "B T Q 4"],
  box_mask: Bool[Array, "B T Q"],
  object_mask: Bool[Array, "B Q"],
  num_context: int = 4,
) -> Float[np.ndarray, "B S"]:
  """Mean IoU over the frames after the context and the objects in them.

  Args:
    pred: forecast boxes (ymin, xmin, ymax, xmax), normalized, all frames.
    target: true boxes; anything where the masks are False.
    box_mask: whether the object has a true box in the frame.
    object_mask: False for padding.
    num_context: first frame that is scored; at least 1.

  Returns:
    One value per clip and sample; NaN for a clip without a true box to score
    and for a sample with a non-finite box among the scored.

  Raises:
    ValueError: if the frame of the query would be scored.
  """
  if num_context <= QUERY_FRAME:
    raise ValueError(
      f"num_context is {num_context}; the query frame {QUERY_FRAME} is given "
      "to the forecaster and cannot be scored, use 1 or more."
    )
  frames = np.arange(box_mask.shape[1]) >= num_context
  counted = np.asarray(box_mask) & np.asarray(object_mask)[:, None, :]
  counted = (counted & frames[:, None])[:, None]
  iou = pair_iou(pred, np.asarray(target)[:, None])
  total = np.where(counted, iou, 0.0).sum(axis=(-2, -1))
  num_pairs = counted.sum(axis=(-2, -1))
  return np.where(num_pairs > 0, total / np.maximum(num_pairs, 1), np.nan)


def _area(boxes: Float[np.ndarray, "*B Q 4"]) -> Float[np.ndarray, "*B Q"]:
  return np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0).prod(axis=-1)
