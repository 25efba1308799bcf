"""Any frames of a video file, by their number, as they would be counted.

Labels of videos count frames in the order they are shown. A file is decoded
once to learn the time of each frame; afterwards a frame is reached from the
key frame before it, and recognized by its time. Where times do not identify
frames, or reaching fails, the file is decoded from its start, so that the
result never depends on the way.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from forecasting.frames import preprocess
from forecasting.frames.decode import (
  CORRUPT,
  NO_VIDEO,
  UNREADABLE,
  BadVideoError,
)

MAX_FRAMES = 100_000  # Close to an hour at 30 frames a second.
MAX_PIXELS = 1 << 26
# The decoder gives frames late; a key frame may be shown after it is decoded.
_MARGIN_FRAMES = 4
_ERRORS = (av.error.FFmpegError, OSError, ValueError, MemoryError)


@dataclasses.dataclass(frozen=True)
class VideoIndex:
  """What is known of a file's frames.

  Attributes:
    seconds: Float64 [n], time of each frame from the first one on.
    stamps: Int64 [n], presentation timestamps, or empty if these do not
      increase and so identify nothing.
    height: Rows as stored.
    width: Columns as stored.
    turns: Quarter turns counterclockwise that bring frames upright, by the
      file's metadata.
    error: Why decoding ended before the file did; empty if it did not.
  """

  seconds: np.ndarray
  stamps: np.ndarray
  height: int
  width: int
  turns: int
  error: str

  def __len__(self) -> int:
    """Returns the number of frames."""
    return len(self.seconds)


def index_video(path: Path) -> VideoIndex:
  """Decodes a file from its first frame to its last readable one.

  Args:
    path: An MP4 file.

  Returns:
    The index, of at least one frame.

  Raises:
    BadVideoError: If no frame can be decoded, or they are too many or large.
  """
  seconds, stamps, shape, error = [], [], None, ""
  try:
    for frame in _decode(path):
      stamps.append(frame.pts if frame.pts is not None else -1)
      timed = frame.pts is not None and frame.time_base is not None
      seconds.append(float(frame.pts * frame.time_base) if timed else 0.0)
      if shape is None:
        turns = round(frame.rotation / 90) % 4
        shape = (frame.height, frame.width, turns)
      if len(stamps) > MAX_FRAMES:
        raise BadVideoError(CORRUPT, f"{path}: over {MAX_FRAMES} frames")
  except _ERRORS as problem:
    error = " ".join(str(problem).split()) or type(problem).__name__
  if shape is None:
    raise BadVideoError(CORRUPT, f"{path}: no frame decodes: {error}")
  # A frame without timestamp is -1, which does not increase either.
  if np.any(np.diff(stamps) <= 0):
    stamps = []
  if np.any(np.diff(seconds) <= 0):
    seconds = (np.arange(len(seconds)) / 30.0).tolist()
  times = np.asarray(seconds, np.float64)
  return VideoIndex(
    times - times[0], np.asarray(stamps, np.int64), *shape, error
  )


def read_squares(
  path: Path,
  index: VideoIndex,
  numbers: Sequence[int],
  size: int,
  turns: int,
) -> UInt8[np.ndarray, "T H W 3"]:
  """Decodes frames and squeezes each to a square.

  Args:
    path: The file.
    index: Of the file.
    numbers: Frames wanted, increasing.
    size: Rows and columns.
    turns: Quarter turns counterclockwise to apply.

  Returns:
    The whole frames, aspect ratio lost.

  Raises:
    BadVideoError: If one cannot be decoded any more.
  """
  squares = {}
  # One for all frames: it keeps its threads and tables.
  convert = VideoReformatter().reformat
  for reach in (True, False):
    if reach and (not len(index.stamps) or numbers[0] == 0):
      continue  # Nothing to reach, or nothing to gain.
    squares = {}
    try:
      for number, frame in _numbered(path, index, numbers[0], reach):
        if number > numbers[-1]:
          break
        if number in numbers and number not in squares:
          rgb = np.rot90(convert(frame, format="rgb24").to_ndarray(), turns)
          squares[number] = preprocess.resize_and_crop(
            rgb[None], size, preprocess.FULL
          )[0]
        if len(squares) == len(numbers):
          return np.stack([squares[number] for number in numbers])
    except _ERRORS as error:
      if not reach:
        raise BadVideoError(CORRUPT, f"{path}: {error}") from error
  lost = sorted(set(numbers) - squares.keys())
  raise BadVideoError(CORRUPT, f"{path}: frames {lost} cannot be decoded")


def _numbered(
  path: Path, index: VideoIndex, first: int, reach: bool
) -> Iterator[tuple[int, av.VideoFrame]]:
  """Yields frames with their numbers, from the start or near `first`."""
  if not reach:
    yield from enumerate(_decode(path))
    return
  number_of = {int(stamp): i for i, stamp in enumerate(index.stamps)}
  target = int(index.stamps[max(0, first - _MARGIN_FRAMES)])
  for frame in _decode(path, target):
    if frame.pts in number_of and not frame.is_corrupt:
      number = number_of[frame.pts]
      if number > first and reach:
        return  # Landed behind it: decode from the start.
      reach = reach and number < first
      yield number, frame


def _decode(path: Path, stamp: int | None = None) -> Iterator[av.VideoFrame]:
  """Yields decoded frames in the order shown, from a timestamp's key frame."""
  try:
    # One format and no other addresses, whatever the file's bytes suggest.
    container = av.open(
      f"file:{path}",
      format="mp4",
      metadata_errors="ignore",
      options={"protocol_whitelist": "file"},
    )
  except _ERRORS as error:
    raise BadVideoError(UNREADABLE, f"{path}: {error}") from error
  with container:
    stream = container.streams.best("video")
    if stream is None:
      raise BadVideoError(NO_VIDEO, f"{path} has no pictures")
    context = stream.codec_context
    if context is None:
      raise BadVideoError(CORRUPT, f"{path}: no decoder for its pictures")
    if context.width * context.height > MAX_PIXELS:
      size = f"{context.width} x {context.height} pixels"
      raise BadVideoError(CORRUPT, f"{path}: {size}")
    if stamp is not None:
      container.seek(stamp, stream=stream, backward=True)
    for frame in container.decode(stream):
      if frame.is_corrupt and stamp is None:
        # A damaged frame would shift the numbers of those behind it.
        raise ValueError("a damaged frame")
      yield frame
