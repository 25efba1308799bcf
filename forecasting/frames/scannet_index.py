"""Which recordings of ScanNet and which of their frames can be used.

Offsets within .sens files, and what was found of every frame that was looked
at, are remembered in one file a recording under the data root, so that the
next run opens in seconds. A recording that was touched is looked at anew.
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from forecasting.frames import memory, scannet_scans, threads
from forecasting.frames.scannet_images import DamagedError

SCAN_FOLDERS = ("scans", "", "extracted")
MIN_VALID_DEPTH = 0.1
DEPTH_RANGE_METERS = (1e-3, 10.0)

# What is known of a frame's color or depth.
UNKNOWN, GOOD, BAD, LITTLE = range(4)
_REASONS = {
  ("color", BAD): "clip: color does not decode",
  ("depth", BAD): "clip: depth does not decode",
  ("depth", LITTLE): "clip: little valid depth",
}


@dataclasses.dataclass(frozen=True)
class Recording:
  """One usable recording.

  Attributes:
    name: As in the list.
    path: .sens file or folder of images.
    identity: Hash that a copy shares.
    memo: File under `root` that remembers index and frames seen.
    num_frames: Frames.
  """

  name: str
  path: Path
  identity: str
  memo: Path
  num_frames: int


def index_scans(
  folder: Path,
  names: Sequence[str],
  root: Path,
  *,
  num_frames: int,
  workers: int,
) -> tuple[list[Recording], collections.Counter[str]]:
  """Finds recordings and the offsets of their frames.

  Args:
    folder: Of the download.
    names: Recordings wanted.
    root: Folder of what is remembered.
    num_frames: Least frames of a usable recording.
    workers: Recordings read at a time.

  Returns:
    Usable recordings in the order of their names, and how many are not, by
    reason.

  Raises:
    OSError: If `root` cannot be written.
  """
  folders = [folder / name for name in SCAN_FOLDERS]

  def index(name: str) -> Recording | tuple[str, str]:
    path = scannet_scans.find_scan(folders, name)
    if path is None:
      return "missing", f"no {name}.sens and no images of it in {folder}"
    try:
      identity, touched = memory.identify(name, path)
      memo = root / "scannet-index" / f"{name}-{touched}.safetensors"
      scan = open_scan(path, memo)
    except DamagedError as error:
      return error.reason, str(error)
    except OSError as error:
      return "unreadable", str(error)
    if scan.num_frames < num_frames:
      detail = f"{path}: {scan.num_frames} frames, {num_frames} needed"
      return "too short", detail
    if isinstance(scan, scannet_scans.SensScan):
      memory.remember(memo, {"index": scan.file.index})
    return Recording(name, path, identity, memo, scan.num_frames)

  found, skipped = [], collections.Counter()
  results = threads.map_threads(
    index, names, workers, "scannet: indexing", "scan"
  )
  for result in results:
    if isinstance(result, Recording):
      found.append(result)
    else:
      skipped[f"scan: {result[0]}"] += 1
      logging.warning("scannet: %s", result[1])
  return found, skipped


def check_windows(
  chosen: Sequence[tuple[Recording, int]],
  labels: tuple[str, ...],
  *,
  num_frames: int,
  workers: int,
) -> tuple[list[tuple[Recording, int]], collections.Counter[str]]:
  """Leaves out clips with a frame that cannot be used.

  Args:
    chosen: Recording and first frame of each clip.
    labels: ('depth',) if depth is needed, else ().
    num_frames: Frames of a clip.
    workers: Recordings read at a time.

  Returns:
    The usable clips in order, and how many are not, by reason.

  Raises:
    OSError: If what was found cannot be remembered.
  """
  of_recording = collections.defaultdict(list)
  for recording, start in chosen:
    of_recording[recording].append(start)

  def check(item: tuple[Recording, list[int]]) -> list[str | None]:
    return _reasons(*item, num_frames, labels)

  reasons = threads.map_threads(
    check, of_recording.items(), workers, "scannet: checking", "scan"
  )
  clips, skipped = [], collections.Counter()
  for (recording, starts), found in zip(of_recording.items(), reasons):
    for start, reason in zip(starts, found):
      if reason is None:
        clips.append((recording, start))
        continue
      skipped[reason] += 1
      logging.warning("scannet: %s:%d, %s", recording.name, start, reason)
  return clips, skipped


@functools.lru_cache(maxsize=64)
def open_scan(path: Path, memo: Path) -> scannet_scans.Scan:
  """Opens a recording, by its index if that is remembered.

  Args:
    path: .sens file or folder of images.
    memo: File of what is remembered; need not exist.

  Returns:
    The recording.

  Raises:
    DamagedError: If it cannot be used.
    OSError: If it cannot be read.
  """
  if path.is_dir():
    return scannet_scans.ExtractedScan(path)
  return scannet_scans.SensScan(path, memory.recall(memo).get("index"))


def _reasons(
  recording: Recording,
  starts: Sequence[int],
  num_frames: int,
  labels: tuple[str, ...],
) -> list[str | None]:
  """Why each window cannot be used, None if it can."""
  scan = open_scan(recording.path, recording.memo)
  before = memory.recall(recording.memo)
  known = {what: np.zeros(scan.num_frames, np.uint8) for what in labels}
  known = {"color": np.zeros(scan.num_frames, np.uint8), **known}
  for what, states in known.items():
    if what in before and before[what].shape == states.shape:
      states[:] = before[what]
  reasons = []
  for start in starts:
    reason = None
    for i in range(start, start + num_frames):
      for what, states in known.items():
        if reason is None and scan.missing(i, what):
          reason = f"clip: a frame has no {what}"
        elif reason is None:
          if states[i] == UNKNOWN:
            states[i] = _state(scan, i, what)
          reason = _REASONS.get((what, int(states[i])))
    reasons.append(reason)
  memory.remember(recording.memo, known)
  return reasons


def _state(scan: scannet_scans.Scan, i: int, what: str) -> int:
  """Decodes one frame to see whether it can be used."""
  try:
    if what == "color":
      scan.color(i, reduce=8)
      return GOOD
    meters = scan.depth(i).astype(np.float32) / np.float32(scan.depth_shift)
  except (DamagedError, OSError) as error:
    logging.warning("scannet: %s", error)
    return BAD
  low, high = DEPTH_RANGE_METERS
  valid = np.mean((meters > low) & (meters <= high))
  return GOOD if valid >= MIN_VALID_DEPTH else LITTLE
