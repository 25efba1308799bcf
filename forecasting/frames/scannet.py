"""ScanNet v2: clips of color and, if asked for, depth.

`data.path` is the folder of the download: the lists `scannetv2_train.txt` and
`scannetv2_val.txt`, and the recordings under `scans/`, as .sens files or
extracted. A clip is `data.num_frames` consecutive frames. Training windows
start every `data.window_stride` frames; evaluation takes `data.eval_windows`
(8) windows spread over each recording of the validation list. Both are thinned
evenly to `data.train_clips` and `data.eval_clips`.

Color and depth are taken as registered: the same normalized window, the
largest centered square of the color image, is cut from both.

Every frame that is to be used is decoded once when the data is opened first,
so that a damaged clip is left out and counted before anything is computed
from it. What was found is kept under `root`.

Source: tasks.md 4.1; where that says nothing, our choice.
"""

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from forecasting.frames import preprocess, scannet_scans, windows
from forecasting.frames.clip import Clip
from forecasting.frames.clip_list import ClipList
from forecasting.frames.scannet_index import (
  Recording,
  check_windows,
  index_scans,
  open_scan,
)

VERSION = 1  # A change of what clips look like makes other clips.
LISTS = {"train": "scannetv2_train.txt", "eval": "scannetv2_val.txt"}
EVAL_WINDOWS = 8


def open_scannet(data: ConfigDict, split: str, root: Path) -> ClipList:
  """Opens the recordings of a split.

  Args:
    data: `path`, `size`, `num_frames`, `window_stride`, `train_clips`,
      `eval_clips`, `workers`. Optional `eval_windows` (8) and `labels`:
      ('depth',), the default, or (), which reads color only and keeps clips
      whose depth is bad, and `max_recordings`: scans looked at, spread over
      all.
    split: 'train' or 'eval', the official training and validation lists.
    root: Folder for what is remembered of the files; may be deleted.

  Returns:
    The split's clips, by recording and time.

  Raises:
    FileNotFoundError: If the folder or the list is missing.
    ValueError: If the list is damaged, a setting wrong, or no clip is left;
      says why.
    OSError: If `root` cannot be written.
  """
  if split not in LISTS:
    raise ValueError(f"scannet has splits 'train' and 'eval', not {split!r}")
  labels = ("depth",) if data.get("labels") is None else tuple(data.labels)
  if not set(labels) <= {"depth"}:
    raise ValueError(f"data.labels={labels}: scannet has 'depth' only")
  folder = _folder(data.path)
  names = windows.spread(read_list(folder, split), data.get("max_recordings"))
  sizes = {"num_frames": data.num_frames, "workers": data.workers}
  recordings, unusable = index_scans(folder, names, Path(root), **sizes)
  chosen = choose_windows(recordings, split, data)
  clips, bad = check_windows(chosen, labels, **sizes)
  skipped = dict(unusable + bad)
  if not clips:
    raise ValueError(
      f"data.path={data.path!r} gives no {split} clip of {data.num_frames} "
      f"frames from the {len(names)} scans of {LISTS[split]}; skipped: "
      f"{skipped}. Details are in the log."
    )
  ids = [_clip_id(recording, start) for recording, start in clips]
  listed = None
  if split == "eval":
    listed = windows.write_eval_list(Path(root), "scannet", ids)
  used = dict.fromkeys(recording.identity for recording, _ in clips)
  content = [VERSION, split, labels, data.size, data.num_frames, ids, [*used]]
  return ClipList(
    clips,
    functools.partial(
      read_clip,
      num_frames=data.num_frames,
      size=data.size,
      depth="depth" in labels,
    ),
    name="scannet",
    split=split,
    labels=labels,
    fingerprint=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
    skipped=skipped,
    eval_list_hash=listed,
  )


def read_list(folder: Path, split: str) -> list[str]:
  """Reads the names of a split's recordings.

  Args:
    folder: Of the download.
    split: 'train' or 'eval'.

  Returns:
    The names in order, each once.

  Raises:
    FileNotFoundError: If there is no list.
    ValueError: If it names no recording, or a line is no name of one.
  """
  path = folder / LISTS[split]
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} is missing: put the official list of scans, one a line, there "
      "(Tasks/Benchmark/ of the ScanNet repository)"
    )
  names = []
  for number, line in enumerate(
    path.read_text("utf-8", "replace").splitlines(), 1
  ):
    if re.fullmatch(r"scene\d{4}_\d{2}", line.strip()):
      names.append(line.strip())
    elif line.strip():
      raise ValueError(
        f"{path}, line {number}: {line[:40]!r} is no scan, as scene0000_00 is"
      )
  if not names:
    raise ValueError(f"{path} names no scan")
  return list(dict.fromkeys(names))


def choose_windows(
  recordings: Sequence[Recording], split: str, data: ConfigDict
) -> list[tuple[Recording, int]]:
  """Lists recording and first frame of the clips wanted.

  Args:
    recordings: In order.
    split: 'train' or 'eval'.
    data: As of `open_scannet`.

  Returns:
    By recording and time, thinned to the number of clips of the split.
  """
  chosen = []
  for recording in recordings:
    total, span = recording.num_frames, data.num_frames
    if split == "eval":
      count = data.get("eval_windows", EVAL_WINDOWS)
      starts = windows.even_starts(total, span, count)
    else:
      starts = range(0, total - span + 1, data.window_stride)
    chosen.extend((recording, start) for start in starts)
  return windows.spread(
    chosen, data.train_clips if split == "train" else data.eval_clips
  )


def read_clip(
  item: tuple[Recording, int], num_frames: int, size: int, depth: bool
) -> Clip:
  """Reads one clip.

  Args:
    item: Recording and first frame.
    num_frames: Frames.
    size: Rows and columns.
    depth: Whether depth is wanted.

  Returns:
    The clip, with depth in float32 meters if it is asked for.

  Raises:
    DamagedError: If it was damaged since the data was opened.
  """
  recording, start = item
  scan = open_scan(recording.path, recording.memo)
  video, meters = read_window(scan, start, num_frames, size, depth)
  clip = {
    "video": video,
    "seconds": scan.seconds(start, num_frames),
    "clip_id": np.asarray(_clip_id(recording, start)),
    "start_frame": np.asarray(start, np.int32),
    "stride": np.asarray(1, np.int32),
  }
  return clip if meters is None else clip | {"depth": meters}


def read_window(
  scan: scannet_scans.Scan, start: int, count: int, size: int, depth: bool
) -> tuple[UInt8[np.ndarray, "T H W 3"], Float[np.ndarray, "T H W 1"] | None]:
  """Reads consecutive frames as centered squares.

  Args:
    scan: The recording.
    start: First frame.
    count: Frames.
    size: Rows and columns wanted.
    depth: Whether depth is wanted.

  Returns:
    RGB, and depth in meters, 0 where there is none, or None.

  Raises:
    DamagedError: If a frame does not decode.
  """
  video = np.empty((count, size, size, 3), np.uint8)
  meters = np.empty((count, size, size, 1), np.float32) if depth else None
  for k in range(count):
    color = scan.color(start + k)
    window = preprocess.center_window(*color.shape[:2])
    video[k] = preprocess.resize_and_crop(color[None], size, window)[0]
    if meters is not None:
      raw = scan.depth(start + k)[None, :, :, None].astype(np.float32)
      raw = preprocess.crop_depth(raw, size, window)
      meters[k] = raw[0] / np.float32(scan.depth_shift)
  return video, meters


def _folder(path: str | None) -> Path:
  if not path:
    raise ValueError(
      "data.path is not set: give the folder of your ScanNet download, "
      "--config.data.path=FOLDER"
    )
  if not Path(path).is_dir():
    raise FileNotFoundError(f"data.path={path!r} does not exist")
  return Path(path)


def _clip_id(recording: Recording, start: int) -> str:
  return f"{recording.name}:{start}"
