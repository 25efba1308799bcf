"""Which objects of a Waymo clip count, and their boxes in the square.

Source: tasks.md 4.4 (the one public protocol, partly our choice).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from forecasting.frames import preprocess, waymo_segment
from forecasting.frames.clip import Clip
from forecasting.frames.waymo_segment import Segment

WINDOW = preprocess.center_window(waymo_segment.HEIGHT, waymo_segment.WIDTH)
MIN_AREA = 0.005  # of the square, in the first frame
MIN_PRESENCE = 0.7
MAX_GAP = 5  # frames


class Objects(NamedTuple):
  """Objects of a clip, those that count first.

  Attributes:
    boxes: Clipped to the square.
    box_mask: Whether something of the object is in the square.
    ids: Their numbers in the segment.
    first_area: Of the box in the first frame, share of the square.
    presence: Share of the frames with a box.
    gap: Longest run of frames without one.
    kept: Whether the object counts.
  """

  boxes: Float[np.ndarray, "T N 4"]
  box_mask: Bool[np.ndarray, "T N"]
  ids: Int[np.ndarray, "N"]
  first_area: Float[np.ndarray, "N"]
  presence: Float[np.ndarray, "N"]
  gap: Int[np.ndarray, "N"]
  kept: Bool[np.ndarray, "N"]


def select_objects(
  segment: Segment, frames: Int[np.ndarray, "T"], max_objects: int
) -> Objects:
  """Cuts the boxes of a clip to the square and decides which objects count.

  Those whose first box has at least `MIN_AREA` of the square, that have a box
  in at least `MIN_PRESENCE` of the frames and never miss more than `MAX_GAP`
  in a row; the largest first.

  Args:
    segment: The segment.
    frames: Those of the clip.
    max_objects: How many may count.

  Returns:
    All objects that appear in the frames.
  """
  boxes, mask, ids = segment.tracks(frames)
  boxes, mask = preprocess.crop_boxes(boxes, mask, WINDOW)
  sides = boxes[0, :, 2:] - boxes[0, :, :2]
  area = np.prod(sides, -1)
  presence = mask.mean(0)
  gap = run = np.zeros(len(ids), int)
  for present in mask:
    run = np.where(present, 0, run + 1)
    gap = np.maximum(gap, run)
  kept = mask[0] & (area >= MIN_AREA)
  kept &= (presence >= MIN_PRESENCE) & (gap <= MAX_GAP)
  # Ties are broken by the object's number, which does not vary.
  order = np.lexsort((ids, -area, ~kept))
  kept = kept[order] & (np.arange(len(ids)) < max_objects)
  return Objects(
    boxes[:, order],
    mask[:, order],
    ids[order],
    area[order],
    presence[order],
    gap[order],
    kept,
  )


def pad_objects(objects: Objects, num_boxes: int) -> Clip:
  """Returns the labels of a clip: objects that count, padded.

  Args:
    objects: Of the clip.
    num_boxes: Of the result.
  """
  count = int(objects.kept.sum())
  shape = (len(objects.boxes), num_boxes)
  labels = {
    "boxes": np.zeros((*shape, 4), np.float32),
    "box_mask": np.zeros(shape, bool),
    "object_mask": np.arange(num_boxes) < count,
    "object_ids": np.zeros(num_boxes, np.int32),
  }
  labels["boxes"][:, :count] = objects.boxes[:, :count]
  labels["box_mask"][:, :count] = objects.box_mask[:, :count]
  labels["object_ids"][:count] = objects.ids[:count]
  return labels
