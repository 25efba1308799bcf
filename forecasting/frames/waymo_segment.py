"""What one Waymo Open segment holds, whichever format it was stored in.

A segment is about 20 s of driving. Of its cameras only the front one is used:
its frames in the order of time, and the boxes labelled in them.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

FRONT = 1
WIDTH, HEIGHT = 1920, 1280  # pixels that boxes are given in

BAD_BOX = "box: not finite or of negative size"
NO_IMAGE = "box: no image at its time"
DUPLICATE_BOX = "box: duplicate"
DUPLICATE_FRAME = "frame: duplicate"
NO_LABELS = "frame: not labelled"

# Time, object, center x, center y, size x, size y, the last four in pixels.
RawBox = tuple[int, str, float, float, float, float]


@dataclass(frozen=True)
class Segment:
  """Frames and boxes of the front camera.

  Attributes:
    name: Of the segment.
    timestamps: Microseconds of every frame, increasing.
    places: Where each frame's image is, as its format says.
    objects: Names of the objects, in order.
    box_frame: Which frame each box is in.
    box_object: Which object it bounds.
    boxes: (ymin, xmin, ymax, xmax), normalized to the frame.
    skipped: What was left out, reason to count.
  """

  name: str
  timestamps: Int[np.ndarray, "frames"]
  places: tuple[tuple[int, int], ...]
  objects: tuple[str, ...]
  box_frame: Int[np.ndarray, "boxes"]
  box_object: Int[np.ndarray, "boxes"]
  boxes: Float[np.ndarray, "boxes 4"]
  skipped: dict[str, int]

  def tracks(
    self, frames: Int[np.ndarray, "T"]
  ) -> tuple[
    Float[np.ndarray, "T N 4"], Bool[np.ndarray, "T N"], Int[np.ndarray, "N"]
  ]:
    """Collects the boxes of some frames by object.

    Args:
      frames: Which ones, in order.

    Returns:
      Boxes, whether there is one, and the objects' indices in `objects`; those
      that are in any of the frames.
    """
    slot = np.full(len(self.timestamps), -1)
    slot[frames] = np.arange(len(frames))
    used = slot[self.box_frame] >= 0
    names, column = np.unique(self.box_object[used], return_inverse=True)
    boxes = np.zeros((len(frames), len(names), 4))
    mask = np.zeros(boxes.shape[:2], bool)
    boxes[slot[self.box_frame[used]], column] = self.boxes[used]
    mask[slot[self.box_frame[used]], column] = True
    return boxes, mask, names

  def to_json(self) -> dict:
    """Returns the segment as what JSON can hold; see `from_json`."""
    return {
      "name": self.name,
      "timestamps": self.timestamps.tolist(),
      "places": [list(place) for place in self.places],
      "objects": list(self.objects),
      "box_frame": self.box_frame.tolist(),
      "box_object": self.box_object.tolist(),
      "boxes": self.boxes.tolist(),
      "skipped": self.skipped,
    }


def from_json(content: dict) -> Segment:
  """Returns the segment that `Segment.to_json` was made of."""
  return Segment(
    name=content["name"],
    timestamps=np.asarray(content["timestamps"], np.int64),
    places=tuple((int(a), int(b)) for a, b in content["places"]),
    objects=tuple(content["objects"]),
    box_frame=np.asarray(content["box_frame"], np.int64),
    box_object=np.asarray(content["box_object"], np.int64),
    boxes=np.asarray(content["boxes"], np.float64).reshape(-1, 4),
    skipped=content["skipped"],
  )


def assemble(
  name: str,
  frames: list[tuple[int, tuple[int, int]]],
  raw_boxes: list[RawBox],
  skipped: Counter[str],
) -> Segment:
  """Sorts frames by time and puts every box to its frame.

  Args:
    name: Of the segment.
    frames: Time and place of every front image, in the order of the file.
    raw_boxes: Boxes of the front camera, in the order of the file.
    skipped: What was left out so far.

  Returns:
    The segment. Boxes that are not finite, have a negative size, come twice
    for one object and time (the first counts), or have no image are left out
    and counted; so are images that come twice.

  Source: tasks.md 4.4.
  """
  skipped = Counter(skipped)
  places = {}
  for time, place in frames:
    if time in places:
      skipped[DUPLICATE_FRAME] += 1
    else:
      places[time] = place
  times = sorted(places)
  frame_of = {time: i for i, time in enumerate(times)}
  kept: dict[tuple[int, str], list[float]] = {}
  for time, object_name, *box in raw_boxes:
    reason = None
    if not np.isfinite(box).all() or box[2] < 0 or box[3] < 0:
      reason = BAD_BOX
    elif time not in frame_of:
      reason = NO_IMAGE
    elif (time, object_name) in kept:
      reason = DUPLICATE_BOX
    if reason:
      skipped[reason] += 1
    else:
      kept[time, object_name] = box
  objects = sorted({object_name for _, object_name in kept})
  number = {object_name: i for i, object_name in enumerate(objects)}
  raw = np.asarray(list(kept.values()), np.float64).reshape(-1, 4)
  return Segment(
    name=name,
    timestamps=np.asarray(times, np.int64),
    places=tuple(places[time] for time in times),
    objects=tuple(objects),
    box_frame=np.asarray([frame_of[t] for t, _ in kept], np.int64),
    box_object=np.asarray([number[o] for _, o in kept], np.int64),
    boxes=normalize_boxes(raw),
    skipped=dict(skipped),
  )


def normalize_boxes(
  boxes: Float[np.ndarray, "N 4"],
) -> Float[np.ndarray, "N 4"]:
  """Returns (ymin, xmin, ymax, xmax) in [0, 1] of center and size in pixels.

  Args:
    boxes: (center x, center y, size x, size y).
  """
  x, y, size_x, size_y = boxes.T
  return np.stack(
    [
      (y - size_y / 2) / HEIGHT,
      (x - size_x / 2) / WIDTH,
      (y + size_y / 2) / HEIGHT,
      (x + size_x / 2) / WIDTH,
    ],
    -1,
  )
