"""Video files to upright RGB frames at a chosen rate.

Frames are taken in the order and at the time they are shown, by their
presentation timestamps; a file's nominal rate is not trusted. The target rate
is a grid of times k / fps counted from the first frame, and each grid time
takes the frame nearest to it. No frame is taken twice: a source slower than
the grid keeps its own frames and its own times.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from forecasting.frames import preprocess

UNREADABLE = "unreadable"
NO_VIDEO = "no video stream"
CORRUPT = "corrupt"

# A container may list frames that its edit list hides; one that ends with this
# share of them missing has been cut off.
MIN_DECODED = 0.9


class BadVideoError(Exception):
  """A file that gives no clips.

  Attributes:
    reason: One of the few reasons files are counted by.
    detail: What exactly went wrong.
  """

  def __init__(self, reason: str, detail: str):
    super().__init__(f"{reason}: {detail}")
    self.reason = reason
    self.detail = detail


class Frame(NamedTuple):
  """One decoded frame.

  Attributes:
    index: Its position among the decoded frames of the file.
    time: Seconds since the first frame, exact.
    rgb: Upright pixels, uint8 [H, W, 3].
    pixel_aspect: Width over height of one displayed pixel of `rgb`.
  """

  index: int
  time: Fraction
  rgb: np.ndarray
  pixel_aspect: float


def read_frames(
  path: Path, fps: float, size: int, squeeze: bool
) -> Iterator[tuple[UInt8[np.ndarray, "size size 3"], float, int]]:
  """Decodes a file to square frames at a rate.

  Args:
    path: The video file.
    fps: Frames kept per second, at most.
    size: Rows and columns of the frames.
    squeeze: The whole frame squeezed to a square, instead of a center crop.

  Yields:
    (frame, seconds, index): uint8 [size, size, 3], seconds since the first
    frame, and the position among the decoded frames.

  Raises:
    BadVideoError: If the file cannot be read to its end.
  """
  for frame in thin(_decode(path), fps):
    window = (
      preprocess.FULL
      if squeeze
      else preprocess.center_window(*frame.rgb.shape[:2], frame.pixel_aspect)
    )
    square = preprocess.resize_and_crop(frame.rgb[None], size, window)[0]
    yield square, float(frame.time), frame.index


def thin(frames: Iterable, fps: float) -> Iterator:
  """Keeps the frames that are nearest to a time k / fps, each once.

  Args:
    frames: Frames with increasing `time`, the first at 0.
    fps: Grid times per second.

  Yields:
    The kept frames. Of two equally near frames the earlier one is kept.
  """
  rate = Fraction(fps).limit_denominator(100_000)
  half = Fraction(1, 2)
  previous, left = None, None
  for frame in frames:
    if previous is not None:
      right = (previous.time + frame.time) * half
      if _grid_time_between(left, right, rate):
        yield previous
      left = right
    previous = frame
  if previous is not None:
    # The last frame is taken to last as long again as it began before.
    right = previous.time if left is None else 2 * previous.time - left
    if _grid_time_between(left, right, rate):
      yield previous


def _grid_time_between(left, right, rate: Fraction) -> bool:
  """Whether some k / rate with k >= 0 lies in (left, right]."""
  if left is None:
    return True
  return (right * rate).__floor__() > (left * rate).__floor__()


def _decode(path: Path) -> Iterator[Frame]:
  """Yields the frames of a file's best video stream in display order."""
  try:
    # A playlist under a video's name must not reach for other addresses.
    container = av.open(
      f"file:{path}",
      metadata_errors="ignore",
      options={"protocol_whitelist": "file"},
    )
  except (av.error.FFmpegError, OSError, ValueError) as error:
    raise BadVideoError(UNREADABLE, _text(error)) from error
  with container:
    stream = container.streams.best("video")
    if stream is None:
      raise BadVideoError(NO_VIDEO, "the file has no pictures")
    if stream.codec_context is None:
      raise BadVideoError(CORRUPT, "no decoder knows its pictures")
    count = 0
    try:
      for frame in _timed(container, stream):
        count = frame.index + 1
        yield frame
    except (av.error.FFmpegError, OSError, ValueError) as error:
      detail = f"decoding stopped after {count} frames: {_text(error)}"
      raise BadVideoError(CORRUPT, detail) from error
    if count < MIN_DECODED * stream.frames:
      detail = f"cut off: {count} of {stream.frames} frames could be decoded"
      raise BadVideoError(CORRUPT, detail)


def _timed(container, stream) -> Iterator[Frame]:
  """Gives every frame its time; drops those that do not advance it."""
  start, last = None, None
  # One for all frames: it keeps its threads and tables.
  convert = VideoReformatter().reformat
  for index, frame in enumerate(container.decode(stream)):
    if frame.is_corrupt:
      if start is None:  # A cut stream begins with undecodable pictures.
        continue
      raise BadVideoError(CORRUPT, f"frame {index} is damaged")
    pts = frame.pts if frame.pts is not None else frame.dts
    if pts is not None and frame.time_base:
      time = pts * frame.time_base
    else:  # Raw streams carry no timestamps at all.
      time = index / Fraction(stream.average_rate or 25)
    if start is None:
      start = time
    elif time <= last:
      continue
    last = time
    aspect = float(stream.sample_aspect_ratio or 1)
    turns = round(frame.rotation / 90)
    rgb = np.rot90(convert(frame, format="rgb24").to_ndarray(), turns)
    yield Frame(index, time - start, rgb, 1 / aspect if turns % 2 else aspect)


def _text(error: Exception) -> str:
  return " ".join(str(error).split()) or type(error).__name__
