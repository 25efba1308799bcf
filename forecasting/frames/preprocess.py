"""Frame geometry: one window cut from the frames and from all their labels.

A window is a rectangle of the source frame in normalized coordinates. Frames
are resampled from it in one step, points and boxes are mapped through it, and
depth is read from it by nearest neighbor, so that labels cannot drift from the
pixels they belong to:

  x' = (x - left) / (right - left),   y' = (y - top) / (bottom - top)    (1)

The two windows in use are the largest centered square (short side resized to
the target, then a center crop) and the whole frame squeezed to a square. A
mirrored clip has x' = 1 - x everywhere.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from forecasting.shapes import Array


class Window(NamedTuple):
  """A rectangle of the source frame, normalized: (0, 0) to (1, 1) is all."""

  top: float
  left: float
  bottom: float
  right: float


FULL = Window(0.0, 0.0, 1.0, 1.0)


def center_window(height: int, width: int, pixel_aspect: float = 1.0) -> Window:
  """Returns the largest centered window that is square when displayed.

  Args:
    height: Rows of the source frame.
    width: Columns of the source frame.
    pixel_aspect: Width of a displayed pixel over its height.

  Returns:
    The window. The same as resizing the short side and cropping the center,
    without the rounding of the long side to whole pixels.

  Raises:
    ValueError: If a side or the aspect is not positive.

  Source: our choice (the paper does not state its crop).
  """
  if height <= 0 or width <= 0 or pixel_aspect <= 0:
    raise ValueError(
      "A frame needs positive sides and pixel aspect; got height "
      f"{height}, width {width}, pixel aspect {pixel_aspect}."
    )
  displayed = width * pixel_aspect
  rows = min(1.0, displayed / height)
  columns = min(1.0, height / displayed)
  top, left = (1 - rows) / 2, (1 - columns) / 2
  return Window(top, left, top + rows, left + columns)


def resize_and_crop(
  frames: UInt8[Array, "T H W 3"], size: int, window: Window | None = None
) -> UInt8[Array, "T size size 3"]:
  """Resamples a window of every frame to a square.

  Args:
    frames: RGB frames.
    size: Rows and columns of the result.
    window: What to cut out; the centered square if not given.

  Returns:
    Bilinearly resampled frames, with antialiasing when shrinking.
  """
  if window is None:
    window = center_window(*frames.shape[1:3])
  height, width = frames.shape[1:3]
  box = (
    window.left * width,
    window.top * height,
    window.right * width,
    window.bottom * height,
  )
  resized = np.empty((len(frames), size, size, 3), np.uint8)
  for i, frame in enumerate(frames):
    image = Image.fromarray(np.ascontiguousarray(frame))
    resized[i] = np.asarray(
      image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    )
  return resized


def crop_points(
  tracks: Float[Array, "*T Q 2"], visible: Bool[Array, "*T Q"], window: Window
) -> tuple[Float[Array, "*T Q 2"], Bool[Array, "*T Q"]]:
  """Maps points through a window by (1).

  Args:
    tracks: Points (x, y), normalized to the source frame.
    visible: Whether each point is seen.
    window: The window cut from the frames.

  Returns:
    The points normalized to the window, and `visible` without the points that
    fell outside it.
  """
  origin = np.asarray([window.left, window.top])
  extent = np.asarray([window.right, window.bottom]) - origin
  moved = (tracks - origin) / extent
  inside = ((moved >= 0) & (moved <= 1)).all(-1)
  return moved.astype(tracks.dtype), visible & inside


def crop_boxes(
  boxes: Float[Array, "*T N 4"], box_mask: Bool[Array, "*T N"], window: Window
) -> tuple[Float[Array, "*T N 4"], Bool[Array, "*T N"]]:
  """Maps boxes through a window by (1) and clips them to it.

  Args:
    boxes: Boxes (ymin, xmin, ymax, xmax), normalized to the source frame.
    box_mask: Whether the object is present.
    window: The window cut from the frames.

  Returns:
    The boxes normalized to the window and clipped to [0, 1], and `box_mask`
    without those of which nothing is left; these are all zero.
  """
  origin = np.asarray([window.top, window.left])
  extent = np.asarray([window.bottom, window.right]) - origin
  moved = (boxes - np.tile(origin, 2)) / np.tile(extent, 2)
  moved = np.clip(moved, 0, 1).astype(boxes.dtype)
  left_over = (moved[..., 2:] - moved[..., :2]).min(-1) > 0
  kept = box_mask & left_over
  return np.where(kept[..., None], moved, 0).astype(boxes.dtype), kept


def crop_depth(
  depth: Float[Array, "T H W 1"], size: int, window: Window | None = None
) -> Float[Array, "T size size 1"]:
  """Reads a window of every depth map at the centers of a square's pixels.

  Args:
    depth: Depth in meters, 0 where there is none.
    size: Rows and columns of the result.
    window: What to cut out; the centered square if not given.

  Returns:
    Nearest values, never mixed: an invalid 0 stays a 0 and spreads nowhere.
  """
  if window is None:
    window = center_window(*depth.shape[1:3])
  height, width = depth.shape[1:3]
  centers = (np.arange(size) + 0.5) / size
  rows = window.top + centers * (window.bottom - window.top)
  columns = window.left + centers * (window.right - window.left)
  # The maximum only guards against rounding at the far border.
  rows = np.minimum((rows * height).astype(int), height - 1)
  columns = np.minimum((columns * width).astype(int), width - 1)
  return np.asarray(depth)[:, rows[:, None], columns]


def flip_horizontal(clip: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Mirrors a clip left to right, with all its labels.

  Args:
    clip: Any keys of a clip; those without a place in the frame are kept.

  Returns:
    The mirrored clip. Boxes that are not present stay 0. Twice is the identity
    up to rounding of coordinates.

  Source: tasks.md 2.5, an augmentation for all tasks but points.
  """
  flipped = dict(clip)
  for key in ("video", "depth"):
    if key in clip:
      flipped[key] = np.ascontiguousarray(clip[key][:, :, ::-1])
  if "tracks" in clip:
    x, y = np.moveaxis(clip["tracks"], -1, 0)
    flipped["tracks"] = np.stack([1 - x, y], -1)
  if "boxes" in clip:
    top, left, bottom, right = np.moveaxis(clip["boxes"], -1, 0)
    boxes = np.stack([top, 1 - right, bottom, 1 - left], -1)
    flipped["boxes"] = np.where(clip["box_mask"][..., None], boxes, 0)
    flipped["boxes"] = flipped["boxes"].astype(boxes.dtype)
  return flipped
