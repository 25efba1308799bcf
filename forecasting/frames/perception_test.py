"""Perception Test: clips with point tracks, or with object boxes.

`data.path` is the folder of the download: `videos/<id>.mp4` and an annotation
file of the split, `valid` for evaluation and `train` for training.

Points ('perception_test'): a clip is `data.num_frames` frames `data.stride`
(4) apart. Evaluation windows follow each other without overlap from frame 0 of
every video; training windows start every `data.window_stride` frames. Every
track that is visible in the first frame is kept; a clip with none is dropped.

Boxes ('perception_test_boxes'): objects are annotated about once a second, so
a clip is `data.num_frames` annotated frames in a row, at least `data.stride`
frames apart. Objects present in the first frame are kept.

Frames are squeezed to a square as a whole, so normalized coordinates stay as
they are. Source: tasks.md 4.2; the box clips are our choice.
"""

import collections
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from forecasting.frames import (
  indexed_video,
  perception_labels,
  preprocess,
  windows,
)
from forecasting.frames.clip import Clip
from forecasting.frames.clip_list import ClipList
from forecasting.frames.perception_labels import VideoLabels
from forecasting.frames.perception_videos import Video, index_videos

VERSION = 1  # A change of what clips look like makes other clips.
SPLITS = {"train": "train", "eval": "valid"}
KINDS = {"perception_test": "points", "perception_test_boxes": "boxes"}
FILES = {
  "points": ("point_tracking_{}.json", "all_{}.json", "{}.json"),
  "boxes": (
    "object_tracking_{}.json",
    "sot_{}_annotations_challenge2023.json",
    "all_{}.json",
    "{}.json",
    "point_tracking_{}.json",
  ),
}
STRIDE = 4


@dataclasses.dataclass(frozen=True)
class Window:
  """A clip before it is decoded.

  Attributes:
    video: It is from.
    frames: Numbers of its frames.
    labels: Its label arrays, not padded yet.
  """

  video: Video
  frames: tuple[int, ...]
  labels: Mapping[str, np.ndarray]

  @property
  def clip_id(self) -> str:
    """Video and first frame."""
    return f"{self.video.name}:{self.frames[0]}"


def open_perception_test(data: ConfigDict, split: str, root: Path) -> ClipList:
  """Opens the videos of a split.

  Args:
    data: `name` ('perception_test' or 'perception_test_boxes'), `path`,
      `size`, `num_frames`, `window_stride`, `train_clips`, `eval_clips`,
      `workers`, `num_points`, `num_boxes`. No track is left out for being one
      too many: clips are padded to the next multiple of `num_points` or
      `num_boxes` that holds all. Optional `stride` (4) and `max_recordings`:
      videos with labels looked at, spread over all.
    split: 'train', or 'eval' for the official validation split.
    root: Folder for what is remembered of the files; may be deleted.

  Returns:
    The split's clips, by video and time.

  Raises:
    FileNotFoundError: If folder or annotations are missing.
    LabelError: If the annotations are damaged; names the field.
    ValueError: If no clip is left; says why.
    OSError: If `root` cannot be written.
  """
  if split not in SPLITS:
    raise ValueError(
      f"{data.name} has splits 'train' and 'eval', not {split!r}"
    )
  kind = KINDS[data.name]
  file = find_annotations(data.path, split, kind)
  labels = perception_labels.read_labels(file, kind)
  if data.get("max_recordings") is not None:
    labeled = [name for name in sorted(labels) if labels[name].tracks]
    some = windows.spread(labeled, data.max_recordings)
    labels = {name: labels[name] for name in some}
  videos, skipped = index_videos(
    file.parent, SPLITS[split], labels, Path(root), data.workers
  )
  chosen = []
  for video in videos:
    tracks = _lay_out(labels[video.name], video.num_frames, skipped)
    for window in cut_windows(video, tracks, kind, split, data):
      if window.labels:
        chosen.append(window)
      else:
        skipped["clip: nothing visible in its first frame"] += 1
  cap = data.train_clips if split == "train" else data.eval_clips
  clips = windows.spread(chosen, cap)
  skipped = +skipped
  if not clips:
    raise ValueError(
      f"{file} and its videos give no {split} clip of {data.num_frames} "
      f"frames; skipped: {dict(skipped)}. Details are in the log."
    )
  ids = [window.clip_id for window in clips]
  listed = None
  if split == "eval":
    listed = windows.write_eval_list(Path(root), data.name, ids)
  chunk = data.num_points if kind == "points" else data.num_boxes
  most = max(len(next(iter(window.labels.values()))) for window in clips)
  padded = -(-most // chunk) * chunk
  return ClipList(
    clips,
    functools.partial(read_clip, size=data.size, padded=padded),
    name=data.name,
    split=split,
    labels=(kind,),
    fingerprint=_fingerprint(clips, [split, data.size, padded]),
    skipped=dict(skipped),
    eval_list_hash=listed,
  )


def find_annotations(path: str | None, split: str, kind: str) -> Path:
  """Finds the annotation file of a split.

  Args:
    path: Folder of the download.
    split: 'train' or 'eval'.
    kind: 'points' or 'boxes'.

  Returns:
    The first file there is of those that hold such annotations.

  Raises:
    FileNotFoundError: If there is none; lists the names.
    ValueError: If `path` is not set.
  """
  if not path:
    raise ValueError(
      "data.path is not set: give the folder of your Perception Test "
      "download, --config.data.path=FOLDER"
    )
  names = [name.format(SPLITS[split]) for name in FILES[kind]]
  for name in names:
    if (Path(path) / name).is_file():
      return Path(path) / name
  raise FileNotFoundError(
    f"data.path={path!r} holds none of {', '.join(names)}: unpack the "
    "annotations of the Perception Test there, and the videos into videos/"
  )


def cut_windows(
  video: Video,
  tracks: Mapping[str, np.ndarray],
  kind: str,
  split: str,
  data: ConfigDict,
) -> Iterator[Window]:
  """Yields the clips of one video, without labels where nothing is visible.

  Args:
    video: The video.
    tracks: `values` [Q T D], `seen` [Q T] and `ids` [Q] of all its frames.
    kind: 'points' or 'boxes'.
    split: 'train' or 'eval'.
    data: As of `open_perception_test`.
  """
  stride, count = data.get("stride", STRIDE), data.num_frames
  if kind == "points":
    span = (count - 1) * stride + 1
    step = count * stride if split == "eval" else data.window_stride
    starts = range(0, video.num_frames - span + 1, step)
    chosen = [range(start, start + span, stride) for start in starts]
  else:
    annotated: list[int] = []
    for frame in np.flatnonzero(tracks["seen"].any(0)).tolist():
      if not annotated or frame >= annotated[-1] + stride:
        annotated.append(frame)
    step = count if split == "eval" else 1
    starts = range(0, len(annotated) - count + 1, step)
    chosen = [annotated[start : start + count] for start in starts]
  for frames in chosen:
    yield Window(video, tuple(frames), _label(tracks, frames, kind))


def read_clip(clip: Window, size: int, padded: int) -> Clip:
  """Reads one clip.

  Args:
    clip: Which one.
    size: Rows and columns.
    padded: Tracks, with padding.

  Returns:
    The clip. Points that are not annotated in a frame are at 0 there.

  Raises:
    BadVideoError: If the video was damaged since the data was opened.
  """
  video, frames = clip.video, list(clip.frames)
  seconds = video.index.seconds[frames]
  return {
    "video": indexed_video.read_squares(
      video.path, video.index, frames, size, video.turns
    ),
    "seconds": (seconds - seconds[0]).astype(np.float32),
    "clip_id": np.asarray(clip.clip_id),
    "start_frame": np.asarray(frames[0], np.int32),
    "stride": np.asarray(round(np.median(np.diff(frames))), np.int32),
    **_pad(clip.labels, padded),
  }


def _label(
  tracks: Mapping[str, np.ndarray], frames: Sequence[int], kind: str
) -> dict[str, np.ndarray]:
  """Label arrays [Q T ...] of what is visible first; empty if nothing is."""
  values = tracks["values"][:, frames]
  seen = tracks["seen"][:, frames]
  if kind == "boxes":
    values, seen = preprocess.crop_boxes(values, seen, preprocess.FULL)
  kept = seen[:, 0]
  if not kept.any():
    return {}
  if kind == "points":
    return {"tracks": values[kept], "visible": seen[kept]}
  ids = tracks["ids"][kept]
  return {"boxes": values[kept], "box_mask": seen[kept], "object_ids": ids}


def _pad(labels: Mapping[str, np.ndarray], padded: int) -> Clip:
  """Label arrays as clips carry them, padded to `padded` tracks."""
  clip = {}
  for key, array in labels.items():
    missing = padded - len(array)
    array = np.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)])
    clip[key] = array.swapaxes(0, 1) if array.ndim > 1 else array
  mask = np.arange(padded) < len(next(iter(labels.values())))
  clip["track_mask" if "tracks" in clip else "object_mask"] = mask
  return clip


def _lay_out(
  labels: VideoLabels, num_frames: int, skipped: collections.Counter
) -> dict[str, np.ndarray]:
  """All tracks of a video over all its frames."""
  laid = []
  for track in labels.tracks:
    if len(track.frames):
      laid.append((*perception_labels.dense(track, num_frames, skipped), track))
    else:
      skipped["track: empty"] += 1
  size = laid[0][0].shape[1] if laid else 2
  return {
    "values": np.array([values for values, _, _ in laid], np.float32).reshape(
      len(laid), num_frames, size
    ),
    "seen": np.array([seen for _, seen, _ in laid], bool).reshape(
      len(laid), num_frames
    ),
    "ids": np.array([track.id for _, _, track in laid], np.int32),
  }


def _fingerprint(clips: Sequence[Window], settings: list) -> str:
  """Hash of all that determines the clips."""
  digest = hashlib.sha256(json.dumps([VERSION, *settings]).encode())
  for window in clips:
    about = [window.clip_id, window.video.identity, window.video.turns]
    digest.update(json.dumps([*about, window.frames]).encode())
    for key in sorted(window.labels):
      digest.update(np.ascontiguousarray(window.labels[key]).tobytes())
  return digest.hexdigest()
