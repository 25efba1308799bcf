"""One frame of one panel: picture, depth map, or overlay on the video.

Imports Pillow and matplotlib when drawing.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, UInt8

from forecasting.report.figures import PALETTE
from forecasting.shapes import Array

OBSERVED = PALETTE[0]
FORECAST = PALETTE[1]
_BORDER = 4
_OVERSAMPLING = 2  # overlays are drawn larger and averaged: smooth edges
_DIMMED = 0.45
_DASH = 10
_TAIL = 3  # frames of a point's past that are drawn
_NO_DEPTH = (150, 150, 150)
# All but the border's colors come first, so that an object is not mistaken
# for a border.
_COLORS = ("#F0E442", "#56B4E9", "#CC79A7", "#009E73", "#E69F00", "#FFFFFF")


@dataclasses.dataclass(frozen=True)
class Overlay:
  """Points or boxes of one clip.

  Attributes:
    values: points (x, y) or boxes (ymin, xmin, ymax, xmax), normalized.
    shown: which are to be drawn: true points that are visible, boxes present.
    solid: which forecast points are predicted visible.
  """

  values: Float[Array, "T Q c"]
  shown: Bool[Array, "T Q"]
  solid: Bool[Array, "T Q"]


def picture(frame: Float[Array, "H W 3"] | UInt8[Array, "H W 3"]) -> np.ndarray:
  """Returns a frame as uint8; floats are intensities in [0, 1]."""
  frame = np.asarray(frame)
  if frame.dtype == np.uint8:
    return frame
  frame = np.nan_to_num(frame.astype(np.float32))
  return np.round(255 * frame.clip(0, 1)).astype(np.uint8)


def depth_range(depth: Float[Array, "*T H W 1"]) -> tuple[float, float]:
  """Returns the meters at the ends of the color scale: 2nd, 98th percentile."""
  depth = np.asarray(depth, np.float32)
  valid = depth[np.isfinite(depth) & (depth > 0)]
  if valid.size == 0:
    return 0.0, 1.0
  low, high = np.percentile(valid, (2, 98))
  return float(low), float(max(high, low + 1e-3))


def depth_picture(
  frame: Float[Array, "H W 1"], low: float, high: float, is_truth: bool
) -> np.ndarray:
  """Returns a depth map in color, gray where there is no depth.

  Args:
    frame: meters; 0 means no measurement in the truth only.
    low: meters at the dark end of the scale.
    high: meters at its bright end.
    is_truth: whether it was measured rather than forecast.
  """
  meters = np.asarray(frame, np.float32)[..., 0]
  valid = np.isfinite(meters) & ((meters > 0) | (not is_truth))
  share = (np.where(valid, meters, low) - low) / (high - low)
  colors = colormap()[np.round(255 * share.clip(0, 1)).astype(int)]
  return np.where(valid[..., None], colors, np.uint8(_NO_DEPTH)).astype(
    np.uint8
  )


@functools.cache
def colormap() -> np.ndarray:
  """Returns the 256 colors of depth, perceptually uniform."""
  import matplotlib

  return (matplotlib.colormaps["viridis"](np.arange(256), bytes=True))[:, :3]


@functools.cache
def font(size: int, bold: bool = False):
  """Returns the typeface that comes with matplotlib."""
  from pathlib import Path

  import matplotlib
  from PIL import ImageFont

  name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
  path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
  return ImageFont.truetype(str(path), size)


def enlarge(frame: UInt8[Array, "H W 3"], size: int):
  """Returns a square image whose pixels stay visible."""
  from PIL import Image

  return Image.fromarray(np.asarray(frame)).resize(
    (size, size), Image.Resampling.NEAREST
  )


def overlay(
  frame: UInt8[Array, "H W 3"],
  time: int,
  size: int,
  truth: Overlay,
  forecast: Overlay | None,
):
  """Draws points or boxes on a video frame.

  Args:
    frame: of the true video; dimmed under a forecast.
    time: which frame it is.
    size: side of the result in pixels.
    truth: drawn solid by itself, dashed (boxes) or as crosses (points) beside
      a forecast.
    forecast: None to draw the truth alone.

  Returns:
    A Pillow image.
  """
  from PIL import ImageDraw

  frame = np.asarray(frame)
  if forecast is not None:
    frame = (frame * _DIMMED).astype(np.uint8)
  image = enlarge(frame, size * _OVERSAMPLING)
  draw = ImageDraw.Draw(image)
  is_box = truth.values.shape[-1] == 4
  mark = _boxes if is_box else _points
  mark(draw, truth, time, image.width, is_truth=forecast is not None)
  if forecast is not None:
    mark(draw, forecast, time, image.width, is_truth=False)
  return image.reduce(_OVERSAMPLING)


def _marks(
  overlay_: Overlay, time: int, size: int
) -> Iterator[tuple[int, np.ndarray]]:
  """Numbers and pixel coordinates of what can be drawn in a frame."""
  values = np.asarray(overlay_.values[time], np.float32)
  for number, value in enumerate(values):
    if overlay_.shown[time, number] and np.isfinite(value).all():
      yield number, value.clip(-1, 2) * size


def _boxes(draw, boxes: Overlay, time: int, size: int, is_truth: bool) -> None:
  for number, (y0, x0, y1, x1) in _marks(boxes, time, size):
    color = _COLORS[number % len(_COLORS)]
    x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    if is_truth:
      corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))
      for start, end in itertools.pairwise(corners):
        dashed_line(draw, start, end, color, width=3)
    else:
      draw.rectangle((x0, y0, x1, y1), outline=color, width=4)


def _points(draw, points: Overlay, time: int, size: int, is_truth: bool):
  radius = 3.2 * _OVERSAMPLING
  for number, (x, y) in _marks(points, time, size):
    color = _COLORS[number % len(_COLORS)]
    if is_truth:
      for dx in (-radius, radius):
        ends = (x - dx, y - radius, x + dx, y + radius)
        draw.line(ends, fill=color, width=3)
      continue
    past = np.asarray(
      points.values[max(0, time - _TAIL) : time + 1, number], np.float32
    )
    if len(past) > 1 and np.isfinite(past).all():
      past = past.clip(-1, 2) * size
      draw.line([tuple(p) for p in past.tolist()], fill=color, width=2)
    circle = (x - radius, y - radius, x + radius, y + radius)
    if points.solid[time, number]:
      draw.ellipse(circle, fill=color, outline="black")
    else:
      draw.ellipse(circle, outline=color, width=3)


def dashed_line(draw, start, end, color: str, width: int) -> None:
  """Draws a dashed straight line."""
  start, end = np.asarray(start, float), np.asarray(end, float)
  length = np.linalg.norm(end - start)
  for begin in np.arange(0, length, 2 * _DASH):
    stop = min(begin + _DASH, length)
    ends = [start + (end - start) * at / length for at in (begin, stop)]
    draw.line([tuple(p) for p in ends], fill=color, width=width)


def framed(image, is_observed: bool):
  """Returns an image with a border that tells observed from forecast."""
  out = _border(*image.size, is_observed).copy()
  out.paste(image, (_BORDER, _BORDER))
  return out


@functools.cache
def _border(width: int, height: int, is_observed: bool):
  """An empty frame for an image of a size."""
  from PIL import Image, ImageDraw

  width, height = width + 2 * _BORDER, height + 2 * _BORDER
  out = Image.new("RGB", (width, height), "white")
  draw = ImageDraw.Draw(out)
  if is_observed:
    draw.rectangle((0, 0, width - 1, height - 1), fill=OBSERVED)
    return out
  middle = _BORDER // 2 - 1
  right, bottom = width - 1 - _BORDER // 2, height - 1 - _BORDER // 2
  for start, end in (
    ((0, middle), (width, middle)),
    ((right, 0), (right, height)),
    ((0, bottom), (width, bottom)),
    ((middle, 0), (middle, height)),
  ):
    dashed_line(draw, start, end, FORECAST, width=_BORDER)
  return out
