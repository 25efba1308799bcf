"""Clips from a folder of video files: pixels only, any size and frame rate.

Each file is decoded once, thinned to `data.fps`, cropped to the target size
and cached frame by frame; a clip is a window of `data.num_frames` consecutive
kept frames, and windows start every `data.window_stride` kept frames.

Splits. With at least ten usable files, whole files go to train or eval by a
hash of their names. With fewer, the last `data.eval_fraction` of each file is
eval and the rest train; windows across the border belong to neither, so no
frame is seen by both. A file too short to be cut goes to one side by its hash.
Source of both rules: our choice.
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from forecasting.frames import video_cache, windows
from forecasting.frames.clip import Clip
from forecasting.frames.clip_list import ClipList
from forecasting.frames.video_cache import Entry

SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v")
MIN_FILES_TO_SPLIT = 10
TOO_SHORT = "too short"


def open_videos(data: ConfigDict, split: str, root: Path) -> ClipList:
  """Indexes a folder of videos, decoding what is not cached yet.

  Args:
    data: `path`, `fps`, `size`, `num_frames`, `window_stride`,
      `eval_fraction`, `workers`, and `train_clips` and `eval_clips`, which cap
      the number of clips (evenly spread over all windows). Optional
      `geometry`: 'crop' (short side and center crop, the default) or
      'squeeze' (the whole frame), and `max_recordings`: files looked at.
    split: 'train' or 'eval'.
    root: Folder of the cache; it may be deleted at any time.

  Returns:
    The split's clips, by file name and then by time.

  Raises:
    FileNotFoundError: If `data.path` does not exist or holds no video file.
    ValueError: If no file gives a clip, listing why, or on a wrong setting.
  """
  if split not in ("train", "eval"):
    raise ValueError(f"videos have splits 'train' and 'eval', not {split!r}")
  geometry = data.get("geometry", "crop")
  if geometry not in ("crop", "squeeze"):
    raise ValueError(f"data.geometry={geometry!r}: use 'crop' or 'squeeze'")
  files = _list_files(data.path)
  files = dict(windows.spread(list(files.items()), data.get("max_recordings")))
  entries = video_cache.cache_all(
    files,
    Path(root),
    fps=data.fps,
    size=data.size,
    geometry=geometry,
    workers=data.workers,
  )
  entries = [_refuse_if_short(entry, data) for entry in entries]
  bad = [entry for entry in entries if entry.reason]
  listing = "; ".join(f"{e.name} ({e.reason}: {e.detail})" for e in bad)
  if bad:
    _log_once(
      logging.WARNING,
      f"videos: skipped {len(bad)} of {len(entries)} files: {listing}",
    )
  usable = {e.name: e for e in entries if not e.reason}
  possible = split_windows(
    {name: entry.num_frames for name, entry in usable.items()},
    split,
    num_frames=data.num_frames,
    stride=data.window_stride,
    eval_fraction=data.eval_fraction,
  )
  if not possible:
    raise ValueError(
      f"data.path={data.path!r} gives no {split} clip of {data.num_frames} "
      f"frames: {len(usable)} of {len(entries)} files are usable. Add files, "
      "or change data.fps or data.eval_fraction."
      + (f" Skipped: {listing}" if bad else "")
    )
  cap = data.train_clips if split == "train" else data.eval_clips
  kept = windows.spread(possible, cap)
  _log_once(
    logging.INFO,
    f"videos: {len(kept)} {split} clips of {len(possible)} windows "
    f"(data.{split}_clips={cap}) in {len(usable)} files",
  )
  return ClipList(
    [(usable[name], start) for name, start in kept],
    functools.partial(read_clip, num_frames=data.num_frames),
    name="videos",
    split=split,
    labels=(),
    fingerprint=_fingerprint(entries, data, geometry, split),
    skipped=Counter(entry.reason for entry in bad),
  )


def read_clip(item: tuple[Entry, int], num_frames: int) -> Clip:
  """Reads one clip.

  Args:
    item: Cached file and first frame.
    num_frames: Frames.

  Returns:
    video, seconds (from the clip's first frame), clip_id ('file:frame'),
    start_frame (position of the first frame in the file) and stride (source
    frames per kept frame, the median).

  Raises:
    ValueError: If the cached frames are damaged.
  """
  entry, start = item
  frames = video_cache.read(entry, start, start + num_frames)
  seconds = np.stack([frame["seconds"] for frame in frames])
  source = np.stack([frame["index"] for frame in frames])
  steps = np.diff(source)
  return {
    "video": np.stack([frame["frame"] for frame in frames]),
    "seconds": (seconds - seconds[0]).astype(np.float32),
    "clip_id": np.asarray(f"{entry.name}:{source[0]}"),
    "start_frame": np.asarray(source[0], np.int32),
    "stride": np.asarray(
      round(np.median(steps)) if len(steps) else 1, np.int32
    ),
  }


def split_windows(
  num_frames_of: Mapping[str, int],
  split: str,
  *,
  num_frames: int,
  stride: int,
  eval_fraction: float,
) -> list[tuple[str, int]]:
  """Lists the windows of a split; no frame belongs to both splits.

  Args:
    num_frames_of: Kept frames of each file by name, at least `num_frames`.
    split: 'train' or 'eval'.
    num_frames: Frames of a window.
    stride: Frames between the starts of neighboring windows.
    eval_fraction: Share of the frames, or of the files, that is eval.

  Returns:
    (name, first frame) of every window, by name and time.
  """
  names = sorted(num_frames_of)
  by_file = len(names) >= MIN_FILES_TO_SPLIT
  eval_names = {name for name in names if _hash01(name) < eval_fraction}
  if by_file and not eval_names:
    eval_names = {min(names, key=_hash01)}
  if by_file and len(eval_names) == len(names):
    eval_names.remove(max(names, key=_hash01))
  found = []
  for name in names:
    total = num_frames_of[name]
    if by_file or total < 2 * num_frames:
      border = 0 if name in eval_names else total
    else:
      border = total - max(num_frames, round(total * eval_fraction))
      border = max(num_frames, border)
    first, end = (0, border) if split == "train" else (border, total)
    starts = range(first, end - num_frames + 1, stride)
    found.extend((name, start) for start in starts)
  return found


def _refuse_if_short(entry: Entry, data: ConfigDict) -> Entry:
  if entry.reason or entry.num_frames >= data.num_frames:
    return entry
  detail = (
    f"{entry.num_frames} frames at {data.fps} a second, "
    f"{data.num_frames} needed"
  )
  return entry._replace(reason=TOO_SHORT, detail=detail)


def _hash01(name: str) -> float:
  digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
  return int.from_bytes(digest, "big") / 2**64


def _list_files(path: str | None) -> dict[str, Path]:
  """Video files by their names below the folder, in order."""
  if not path:
    raise ValueError(
      "data.path is not set: give the folder of your videos, "
      "--config.data.path=FOLDER"
    )
  folder = Path(path)
  if not folder.exists():
    raise FileNotFoundError(f"data.path={path!r} does not exist")
  found = [folder] if folder.is_file() else sorted(folder.rglob("*"))
  base = folder.parent if folder.is_file() else folder
  files = {
    file.relative_to(base).as_posix(): file
    for file in found
    if file.suffix.lower() in SUFFIXES and file.is_file()
  }
  if not files:
    raise FileNotFoundError(
      f"data.path={path!r} holds no video file ({', '.join(SUFFIXES)})"
    )
  return files


def _fingerprint(
  entries: Sequence[Entry], data: ConfigDict, geometry: str, split: str
) -> str:
  """Hash of all that determines the clips of a split."""
  content = {
    "format": video_cache.FORMAT,
    "split": split,
    "geometry": geometry,
    "files": [(entry.name, entry.identity) for entry in entries],
    "settings": {
      field: data[field]
      for field in (
        "fps",
        "size",
        "num_frames",
        "window_stride",
        "eval_fraction",
        f"{split}_clips",
      )
    },
  }
  return hashlib.sha256(
    json.dumps(content, sort_keys=True).encode()
  ).hexdigest()


@functools.cache
def _log_once(level: int, message: str) -> None:
  logging.log(level, "%s", message)
