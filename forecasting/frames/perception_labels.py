"""The annotations of the Perception Test, checked field by field.

One JSON object per split: video id to `metadata` and lists of tracks. A track
lists the frames it is annotated in; in all others it is hidden or out of view.

| track  | list              | values                                       |
|--------|-------------------|----------------------------------------------|
| point  | `point_tracking`  | `points`: [ys, xs], or one [y, x] per frame  |
| object | `object_tracking` | `bounding_boxes`: [x1, y1, x2, y2] per frame |

All coordinates are normalized. Two points in two frames fit both layouts of
`points`; [ys, xs] is meant, as in the owner's own evaluation.

Source: tasks.md 4.2; boxes: the README of the data set.
"""

import collections
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Coordinates beyond are no annotation; still finite in float32.
_FAR = 16.0
_FIELDS = {"points": "point_tracking", "boxes": "object_tracking"}


class LabelError(ValueError):
  """An annotation file that is not what it should be."""


class Track(NamedTuple):
  """One annotated point or object.

  Attributes:
    id: Of the annotation.
    frames: Int64 [n], frames annotated, as they come.
    values: Float64 [n 2] (x, y) or [n 4] (ymin, xmin, ymax, xmax).
  """

  id: int
  frames: np.ndarray
  values: np.ndarray


class VideoLabels(NamedTuple):
  """Annotations of one video.

  Attributes:
    num_frames: That the video should have.
    height: Rows of an upright frame.
    width: Columns of an upright frame.
    tracks: Of points or of objects.
  """

  num_frames: int
  height: int
  width: int
  tracks: tuple[Track, ...]


def read_labels(path: Path, kind: str) -> dict[str, VideoLabels]:
  """Reads one annotation file.

  Args:
    path: JSON file.
    kind: 'points' or 'boxes'.

  Returns:
    Video id to its labels, in the order of the file. Tracks may be none.

  Raises:
    LabelError: If anything is not as described above; names file and field.
    OSError: If it cannot be read.
  """
  where = f"{path}: "
  labels = {}
  for name, video in _read_json(path).items():
    if not re.fullmatch(r"[\w-]+", name):
      raise LabelError(f"{where}video id {name[:40]!r} has odd characters")
    labels[name] = _video(_mapping(video, where, name), where + name, kind)
  return labels


def labeled_videos(path: Path, kind: str) -> list[str]:
  """Names the videos that have tracks, without looking at these.

  Args:
    path: JSON file.
    kind: 'points' or 'boxes'.

  Returns:
    Video ids in order.

  Raises:
    LabelError: If it is no object of objects.
    OSError: If it cannot be read.
  """
  videos = _read_json(path)
  return sorted(
    name
    for name, video in videos.items()
    if _mapping(video, f"{path}: ", name).get(_FIELDS[kind])
  )


def dense(
  track: Track, num_frames: int, counts: collections.Counter
) -> tuple[np.ndarray, np.ndarray]:
  """Lays a track out over the frames of its video.

  Args:
    track: A point or object.
    num_frames: Frames of the video.
    counts: Where entries that cannot be used are counted by reason.

  Returns:
    Float32 [num_frames D], 0 where nothing is annotated, and bool
    [num_frames]: annotated, and for points inside the frame.
  """
  inside = (track.frames >= 0) & (track.frames < num_frames)
  frames, values = track.frames[inside], track.values[inside]
  frames, first = np.unique(frames, return_index=True)
  counts["label: frame beyond the video"] += int((~inside).sum())
  counts["label: frame annotated twice"] += int(inside.sum() - len(first))
  values = values[first]
  known = np.isfinite(values).all(-1)
  counts["label: not a number"] += int((~known).sum())
  if track.values.shape[1] == 2:
    seen = known & ((values >= 0) & (values <= 1)).all(-1)
  else:
    seen = known & (values[:, 2:] > values[:, :2]).all(-1)
  laid = np.zeros((num_frames, values.shape[1]), np.float32)
  visible = np.zeros(num_frames, bool)
  laid[frames] = np.clip(np.where(known[:, None], values, 0), -_FAR, _FAR)
  visible[frames] = seen
  return laid, visible


def _read_json(path: Path) -> Mapping:
  try:
    content = json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise LabelError(f"{path} is no JSON: {error}") from error
  return _mapping(content, f"{path}: ", "the file")


def _video(video: Mapping, where: str, kind: str) -> VideoLabels:
  """Reads the labels of one video."""
  about = _mapping(video.get("metadata"), where, ".metadata")
  size = about.get("resolution")
  if not (isinstance(size, list) and len(size) == 2):
    raise LabelError(f"{where}.metadata.resolution is no [height, width]")
  height, width = (
    _integer(value, where, ".metadata.resolution", 1) for value in size
  )
  num_frames = _integer(
    about.get("num_frames"), where, ".metadata.num_frames", 0
  )
  field = _FIELDS[kind]
  tracks = video.get(field) or []
  if not isinstance(tracks, list):
    raise LabelError(f"{where}.{field} is no list")
  return VideoLabels(
    num_frames,
    height,
    width,
    tuple(
      _track(track, f"{where}.{field}[{i}]", kind)
      for i, track in enumerate(tracks)
    ),
  )


def _track(track: Any, where: str, kind: str) -> Track:
  """Reads one point or object; without values it has no frames."""
  track = _mapping(track, where, "")
  number = _integer(track.get("id"), where, ".id", -(1 << 31))
  frames = _array(track.get("frame_ids") or [], where + ".frame_ids")
  if frames.ndim != 1 or np.any(frames != np.round(frames)):
    raise LabelError(f"{where}.frame_ids is no list of whole numbers")
  # Beyond any video, and exact in both types.
  frames = np.clip(frames, -1, 1 << 40).astype(np.int64)
  field = {"points": "points", "boxes": "bounding_boxes"}[kind]
  values = _array(track.get(field) or [], f"{where}.{field}")
  if values.size == 0:
    values = np.zeros((0, 2 if kind == "points" else 4))
    return Track(number, frames[:0], values)
  n, shape = len(frames), values.shape
  if kind == "points" and shape == (2, n):
    values = values.T[:, ::-1]
  elif kind == "points" and shape == (n, 2):
    values = values[:, ::-1]
  elif kind == "boxes" and shape == (n, 4):
    values = values[:, [1, 0, 3, 2]]
  else:
    raise LabelError(
      f"{where}.{field} has shape {list(shape)}, which does not fit the {n} "
      "entries of frame_ids"
    )
  return Track(number, frames, values)


def _mapping(value: Any, where: str, name: str) -> Mapping:
  if not isinstance(value, dict):
    raise LabelError(f"{where}{name} is {_kind(value)}, not an object")
  return value


def _integer(value: Any, where: str, name: str, least: int) -> int:
  whole = isinstance(value, int | float) and not isinstance(value, bool)
  if not whole or value != value or not least <= value < 1 << 31:
    raise LabelError(f"{where}{name} is {_kind(value)}, not a whole number")
  return int(value)


def _array(value: Any, where: str) -> np.ndarray:
  """Numbers of a list, or of lists of one length, as float64."""
  try:
    array = np.asarray(value, np.float64)
  except (ValueError, TypeError, OverflowError) as error:
    raise LabelError(
      f"{where} is {_kind(value)}, not numbers in lists of one length"
    ) from error
  # Text of digits would pass as numbers.
  if not isinstance(value, list) or (
    array.ndim and np.asarray(value).dtype.kind not in "if"
  ):
    raise LabelError(f"{where} is {_kind(value)}, not a list of numbers")
  return array


def _kind(value: Any) -> str:
  text = json.dumps(value, default=str)
  return text if len(text) <= 40 else text[:37] + "..."
