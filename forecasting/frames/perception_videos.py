"""The videos of the Perception Test: where they are, which can be used.

Every file is decoded once, to count its frames as its labels do; what was
found is remembered under the data root.
"""

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import logging

from forecasting.frames import indexed_video, memory, threads
from forecasting.frames.decode import UNREADABLE, BadVideoError
from forecasting.frames.indexed_video import VideoIndex
from forecasting.frames.perception_labels import VideoLabels

VIDEO_FOLDERS = ("videos", "{}_videos", "{}/videos", "{}", "")


@dataclasses.dataclass(frozen=True)
class Video:
  """A usable video.

  Attributes:
    name: Its id.
    path: Of the file.
    identity: Hash that a copy shares.
    index: Of its frames.
    turns: Quarter turns counterclockwise that bring frames upright.
    num_frames: Frames that are there and may be annotated.
  """

  name: str
  path: Path
  identity: str
  index: VideoIndex
  turns: int
  num_frames: int


def index_videos(
  folder: Path,
  split: str,
  labels: Mapping[str, VideoLabels],
  root: Path,
  workers: int,
) -> tuple[list[Video], collections.Counter[str]]:
  """Finds and decodes the videos that have labels.

  Args:
    folder: Of the download.
    split: As the data set calls it.
    labels: By video id.
    root: Folder of what is remembered.
    workers: Files read at a time.

  Returns:
    The usable videos by id, and how many are not, by reason. A video with
    other than the announced number of frames is counted, and used as far as it
    goes.

  Raises:
    OSError: If `root` cannot be written.
  """

  def index(name: str) -> Video | tuple[str, str]:
    if not labels[name].tracks:
      return "no tracks", f"{name} has no tracks"
    path = find_video(folder, split, name)
    if path is not None:
      return _index_one(name, path, labels[name], root)
    return "missing", f"{name}.mp4 is in none of {VIDEO_FOLDERS} of {folder}"

  names = sorted(labels)
  videos, skipped = [], collections.Counter()
  results = threads.map_threads(
    index, names, workers, "perception_test: indexing", "video"
  )
  for name, result in zip(names, results):
    if not isinstance(result, Video):
      skipped[f"video: {result[0]}"] += 1
      logging.warning("perception_test: %s", result[1])
      continue
    videos.append(result)
    found, announced = len(result.index), labels[name].num_frames
    if found != announced:
      skipped["video: not as many frames as announced"] += 1
      text = "%s: %d of %d frames; tracks end with the shorter. %s"
      logging.warning(text, result.path, found, announced, result.index.error)
  return videos, skipped


def find_video(folder: Path, split: str, name: str) -> Path | None:
  """Finds the file of a video.

  Args:
    folder: Of the download.
    split: As the data set calls it.
    name: Of the video.

  Returns:
    The file; None if there is none.
  """
  for place in VIDEO_FOLDERS:
    path = folder / place.format(split) / f"{name}.mp4"
    if path.is_file():
      return path
  return None


def upright_turns(index: VideoIndex, labels: VideoLabels) -> int:
  """Returns the quarter turns that bring frames into the labels' orientation.

  Args:
    index: Of the video, with the turns that its metadata asks for.
    labels: Of the video, with the size that frames are annotated in.

  Returns:
    The turns of the metadata; none if only unturned frames fit the labels.

  Raises:
    BadVideoError: If neither fits.
  """
  wide = np.sign(labels.width - labels.height)
  for turns in (index.turns, 0):
    size = (index.height, index.width)
    height, width = size[::-1] if turns % 2 else size
    # A square has any orientation.
    if 0 in (wide, width - height) or wide == np.sign(width - height):
      return turns
  raise BadVideoError(
    "wrong orientation",
    f"frames of {index.width} x {index.height}, annotated as "
    f"{labels.width} x {labels.height}",
  )


def _index_one(
  name: str, path: Path, labels: VideoLabels, root: Path
) -> Video | tuple[str, str]:
  """A video, or the reason why it cannot be used and what is wrong."""
  try:
    identity, touched = memory.identify(name, path)
    memo = root / "perception_test-index" / f"{name}-{touched}.safetensors"
    index = _recall(memo)
    news = index is None
    index = indexed_video.index_video(path) if news else index
    turns = upright_turns(index, labels)
  except BadVideoError as error:
    return error.reason, f"{path}: {error}"
  except OSError as error:
    return UNREADABLE, f"{path}: {error}"
  if news:
    _remember(memo, index)
  num_frames = min(len(index), labels.num_frames)
  return Video(name, path, identity, index, turns, num_frames)


def _remember(memo: Path, index: VideoIndex) -> None:
  content = {
    "seconds": index.seconds,
    "stamps": index.stamps,
    "shape": np.array([index.height, index.width, index.turns]),
    "error": np.frombuffer(index.error.encode(), np.uint8),
  }
  memory.remember(memo, content)


def _recall(memo: Path) -> VideoIndex | None:
  """What is remembered of a video, if that is whole."""
  known = memory.recall(memo)
  try:
    index = VideoIndex(
      known["seconds"],
      known["stamps"],
      *known["shape"].tolist(),
      known["error"].tobytes().decode("utf-8", "replace"),
    )
  except (KeyError, TypeError):
    return None
  rising = len(index) > 0 and np.all(np.diff(index.seconds) > 0)
  return index if rising and len(index.stamps) in (0, len(index)) else None
