"""Whether a download is complete and usable: what is there, what opens.

Counts the recordings on disk against those that the release has, opens the
split with its reader and decodes a few clips. What the reader finds is kept
under `root`, so that a run with the same `data.root` does not look again.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from forecasting.frames import (
  movi_index,
  perception_labels,
  perception_test,
  perception_videos,
  scannet,
  scannet_index,
  scannet_scans,
  tfds_folder,
  waymo,
  waymo_v1,
  waymo_v2,
  windows,
)
from forecasting.frames.clip import Clip, validate_clip
from forecasting.frames.decode import BadVideoError
from forecasting.frames.pipeline import ClipSource, open_source

# Splits that the protocol uses, where it is not both.
NEEDED = {"movi": ("train",), "perception_test": ("eval",)}
WAYMO_SEGMENTS = {"train": 798, "eval": 202}
_ERRORS = (ValueError, OSError, BadVideoError)


@dataclasses.dataclass(frozen=True)
class Inventory:
  """Recordings of a split.

  Attributes:
    unit: What is counted.
    found: How many are there.
    expected: How many the release has.
  """

  unit: str
  found: int
  expected: int

  @property
  def is_complete(self) -> bool:
    """Whether nothing is missing."""
    return self.found >= self.expected


@dataclasses.dataclass(frozen=True)
class Inspection:
  """What was found of a split.

  Attributes:
    split: 'train' or 'eval'.
    is_needed: Whether the protocol uses it.
    inventory: None where no release says how much there is.
    source: None if it does not open.
    clips: A few, spread over the split.
    problem: Why it does not open, or a clip does not decode; else empty.
  """

  split: str
  is_needed: bool
  inventory: Inventory | None
  source: ClipSource | None
  clips: tuple[Clip, ...]
  problem: str

  @property
  def is_usable(self) -> bool:
    """Whether it gives clips, all of those looked at without damage."""
    return self.source is not None and not self.problem


def inspect(
  data: ConfigDict, split: str, root: Path, num_clips: int
) -> Inspection:
  """Opens a split and decodes some of its clips.

  Args:
    data: `config.data`.
    split: 'train' or 'eval'.
    root: Folder for what is remembered of the files.
    num_clips: How many to decode.

  Returns:
    What was found; problems of the data are in it, not raised.
  """
  inventory, source, clips, problem = None, None, [], ""
  try:
    if data.name in _INVENTORIES:
      inventory = _INVENTORIES[data.name](data, split)
    source = open_source(data, split, root)
    for index in windows.spread(range(len(source)), num_clips):
      clips.append(validate_clip(source[index]))
  except _ERRORS as error:
    problem = str(error)
  is_needed = split in NEEDED.get(data.name, ("train", "eval"))
  return Inspection(split, is_needed, inventory, source, tuple(clips), problem)


def describe_labels(clips: tuple[Clip, ...]) -> dict[str, str]:
  """Says how much is labeled, by kind of label, over some clips."""
  described = {}
  if clips and "depth" in clips[0]:
    share = np.mean([np.mean(clip["depth"] > 0) for clip in clips])
    meters = np.concatenate(
      [clip["depth"][clip["depth"] > 0] for clip in clips]
    )
    described["depth"] = f"{share:.0%} of the pixels measured"
    if meters.size:
      described["depth"] += f", median {np.median(meters):.1f} m"
  for name, kept, seen in (
    ("tracks", "track_mask", "visible"),
    ("boxes", "object_mask", "box_mask"),
  ):
    if clips and name in clips[0]:
      count = np.mean([clip[kept].sum() for clip in clips])
      present = np.concatenate(
        [clip[seen][:, clip[kept]].ravel() for clip in clips]
      )
      described[name] = f"{count:.1f} a clip"
      if present.size:
        described[name] += f", seen in {present.mean():.0%} of it"
  return described


def _scannet(data: ConfigDict, split: str) -> Inventory:
  folder = Path(data.path)
  names = scannet.read_list(folder, split)
  folders = [folder / name for name in scannet_index.SCAN_FOLDERS]
  found = sum(scannet_scans.find_scan(folders, n) is not None for n in names)
  return Inventory("scans", found, len(names))


def _waymo(data: ConfigDict, split: str) -> Inventory:
  folder, name = Path(data.path), waymo.SPLITS[split]
  segments = set(waymo_v2.list_segments(folder / name)[0])
  if not segments:
    for parent in (folder / "individual_files" / name, folder / name):
      segments |= set(waymo_v1.list_segments(parent))
  return Inventory("segments", len(segments), WAYMO_SEGMENTS[split])


def _movi(data: ConfigDict, split: str) -> Inventory:
  # Says itself which files are missing.
  shards = tfds_folder.find_folder(data.path).shards(movi_index.SPLITS[split])
  return Inventory("files", len(shards), len(shards))


def _perception_test(data: ConfigDict, split: str) -> Inventory:
  kind = perception_test.KINDS[data.name]
  file = perception_test.find_annotations(data.path, split, kind)
  names = perception_labels.read_labels(file, kind)
  folders = [
    file.parent / place.format(perception_test.SPLITS[split])
    for place in perception_videos.VIDEO_FOLDERS
  ]
  found = sum(
    any((folder / f"{name}.mp4").is_file() for folder in folders)
    for name in names
  )
  return Inventory("videos", found, len(names))


_INVENTORIES: Mapping[str, Callable[[ConfigDict, str], Inventory]] = {
  "movi": _movi,
  "perception_test": _perception_test,
  "perception_test_boxes": _perception_test,
  "scannet": _scannet,
  "waymo": _waymo,
}
