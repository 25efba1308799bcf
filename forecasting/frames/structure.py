"""What a download holds, told without decoding any of it.

Every recording of a split is looked for, and of each file that is there as
much is read as shows whether it is whole: its header, its index, or where its
records begin and end. That takes a few reads a file, however large it is.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from forecasting.frames import (
  movi_index,
  perception_labels,
  perception_test,
  perception_videos,
  scannet,
  scannet_index,
  scannet_scans,
  scannet_sens,
  tfds_folder,
  tfrecord,
  threads,
  waymo,
  waymo_v1,
  waymo_v2,
)

WAYMO_SEGMENTS = {"train": 798, "eval": 202}
_READS_AT_A_TIME = 16  # which wait for the disk or the network
_MAX_BOXES = 10_000  # of an MP4 file; those of a camera have about five
_NEEDED_BOXES = (b"moov", b"mdat")


@dataclass(frozen=True)
class Structure:
  """The recordings of a split, as files.

  Attributes:
    unit: What is counted.
    found: How many are there.
    expected: How many the release has.
    num_recordings: What readers look at one by one, in all files together.
    looked_at: What was read of every file.
    damaged: What is wrong with those that are not whole.
    is_fatal: Whether readers stop at a damaged file instead of leaving it out.
  """

  unit: str
  found: int
  expected: int
  num_recordings: int
  looked_at: str
  damaged: tuple[str, ...]
  is_fatal: bool


def look(data: ConfigDict, split: str) -> Structure | None:
  """Looks at all files of a split.

  Args:
    data: `config.data`.
    split: 'train' or 'eval'.

  Returns:
    What is there; None for data of which no release says how much there is.

  Raises:
    ValueError: If folder, list or description is missing or damaged.
    OSError: If one cannot be read.
  """
  scan = _SCANS.get(data.name)
  return scan(data, split) if scan else None


def check_mp4(path: Path) -> None:
  """Walks over the outermost boxes of an MP4 file.

  Args:
    path: The file.

  Raises:
    ValueError: If one ends behind the file, or there is no index or no data.
    OSError: If it cannot be read.
  """
  size, offset, kinds = path.stat().st_size, 0, []
  with path.open("rb") as file:
    while offset < size and len(kinds) < _MAX_BOXES:
      file.seek(offset)
      header = file.read(16).ljust(16, b"\0")
      length, kind, long_length = struct.unpack(">I4sQ", header)
      if length == 1:
        length = long_length
      elif length == 0:  # the rest of the file
        length = size - offset
      if length < 8 or offset + length > size:
        raise ValueError(
          f"{path}: the box at byte {offset} has {length} bytes, but the file "
          f"ends at byte {size}: download it again"
        )
      kinds.append(kind)
      offset += length
  for kind in _NEEDED_BOXES:
    if kind not in kinds:
      raise ValueError(f"{path}: no box {kind.decode()!r}: download it again")


def _damaged(
  check: Callable[[Path], object], paths: Iterable[Path], title: str
) -> tuple[str, ...]:
  """What is wrong with files."""

  def problem(path: Path) -> str:
    try:
      check(path)
    except (ValueError, OSError) as error:
      return str(error)
    return ""

  problems = threads.map_threads(
    problem, paths, _READS_AT_A_TIME, f"{title}: looking at files", "file"
  )
  return tuple(filter(None, problems))


def _scannet(data: ConfigDict, split: str) -> Structure:
  folder = Path(data.path)
  names = scannet.read_list(folder, split)
  folders = [folder / name for name in scannet_index.SCAN_FOLDERS]
  paths = [scannet_scans.find_scan(folders, name) for name in names]
  paths = [path for path in paths if path is not None]
  # Of extracted ones nothing says how many images there should be.
  files = [path for path in paths if path.is_file()]
  return Structure(
    unit="scans",
    found=len(paths),
    expected=len(names),
    num_recordings=len(paths),
    looked_at="the header, the first frames and the size",
    damaged=_damaged(scannet_sens.check_size, files, "scannet"),
    is_fatal=False,
  )


def _waymo(data: ConfigDict, split: str) -> Structure:
  folder, name = Path(data.path), waymo.SPLITS[split]
  pairs = waymo_v2.list_segments(folder / name)[0]
  found, check = len(pairs), waymo_v2.check_file
  paths = [path for pair in pairs.values() for path in pair]
  if not pairs:
    segments: dict[str, Path] = {}
    for parent in (folder / "individual_files" / name, folder / name):
      segments = segments or waymo_v1.list_segments(parent)
    found, check = len(segments), tfrecord.read_spans
    paths = list(segments.values())
  return Structure(
    unit="segments",
    found=found,
    expected=WAYMO_SEGMENTS[split],
    num_recordings=found,
    looked_at="the index" if pairs else "where records begin and end",
    damaged=_damaged(check, paths, "waymo"),
    is_fatal=True,
  )


def _movi(data: ConfigDict, split: str) -> Structure:
  # Says itself which files are missing.
  shards = tfds_folder.find_folder(data.path).shards(movi_index.SPLITS[split])
  of_path = {shard.path: shard for shard in shards}
  return Structure(
    unit="files",
    found=len(shards),
    expected=len(shards),
    num_recordings=sum(shard.num_records for shard in shards),
    looked_at="the number of records and where they are",
    damaged=_damaged(
      lambda path: tfds_folder.locate(of_path[path]), of_path, "movi"
    ),
    is_fatal=True,
  )


def _perception_test(data: ConfigDict, split: str) -> Structure:
  kind = perception_test.KINDS[data.name]
  file = perception_test.find_annotations(data.path, split, kind)
  names = perception_labels.labeled_videos(file, kind)
  folder, name = file.parent, perception_test.SPLITS[split]
  paths = [perception_videos.find_video(folder, name, n) for n in names]
  paths = [path for path in paths if path is not None]
  return Structure(
    unit="videos",
    found=len(paths),
    expected=len(names),
    num_recordings=len(paths),
    looked_at="the boxes of the MP4 file",
    damaged=_damaged(check_mp4, paths, data.name),
    is_fatal=False,
  )


_SCANS: Mapping[str, Callable[[ConfigDict, str], Structure]] = {
  "movi": _movi,
  "perception_test": _perception_test,
  "perception_test_boxes": _perception_test,
  "scannet": _scannet,
  "waymo": _waymo,
}
