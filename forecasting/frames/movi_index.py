"""Which records of a MOVi download can be used, and where they are."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from absl import logging
from ml_collections import ConfigDict

from forecasting.frames import file_index, tfds_folder, threads, windows
from forecasting.frames.movi_scene import FrameFormat, Scene, SceneError
from forecasting.frames.tfds_folder import Shard, TfdsFolder
from forecasting.frames.tfrecord import Span

VERSION = 1  # A change of what is looked at makes a new index.
SPLITS = {"train": "train", "eval": "validation"}
DUPLICATE = "duplicate video name"
TOO_SHORT = "too short"


class Video(NamedTuple):
  """A usable record.

  Attributes:
    shard: Its file.
    index: Its place in the file.
    span: Where it is, if the file is a TFRecord.
    name: Of the video.
    num_frames: Of the video.
  """

  shard: Shard
  index: int
  span: Span | None
  name: str
  num_frames: int


def index_videos(
  folder: TfdsFolder,
  split: str,
  root: Path,
  data: ConfigDict,
  skipped: Counter[str],
) -> list[Video]:
  """Finds the usable records of a split.

  Args:
    folder: The data set.
    split: 'train' or 'eval'.
    root: Folder for what is remembered.
    data: As of `open_movi`.
    skipped: Reasons are counted here.

  Returns:
    The videos in the order of their names.

  Raises:
    ValueError: If a file is missing or damaged.
    OSError: If one cannot be read, or `root` not be written.
  """
  shards = folder.shards(SPLITS[split])
  expected = frame_format(folder)

  places = [(k, i) for k, s in enumerate(shards) for i in range(s.num_records)]
  chosen = [[] for _ in shards]
  for k, i in windows.spread(places, data.get("max_recordings")):
    chosen[k].append(i)

  def index(item: tuple[Shard, list[int]]) -> list:
    shard, records = item
    version = [VERSION, shard.num_records, expected.__dict__]
    if len(records) < shard.num_records:
      if not records:
        return []
      version.append(records)
    return file_index.remember(
      root,
      "movi",
      [shard.path],
      version,
      lambda: _index_shard(shard, records, expected),
    )

  found = threads.map_threads(
    index,
    list(zip(shards, chosen)),
    data.workers,
    f"movi {split}: indexing",
    "file",
  )
  videos: dict[str, Video] = {}
  for shard, indices, records in zip(shards, chosen, found):
    for i, (name, num_frames, span, reason, detail) in zip(indices, records):
      if reason is None and name in videos:
        reason, detail = DUPLICATE, repr(name)
      elif reason is None and num_frames < data.num_frames:
        reason, detail = TOO_SHORT, f"{num_frames} frames"
      if reason is not None:
        skipped[reason] += 1
        logging.warning(
          "movi: skipped record %d of %s: %s: %s", i, shard.path, reason, detail
        )
        continue
      span = span and Span(*span)
      videos[name] = Video(shard, i, span, name, num_frames)
  return [videos[name] for name in sorted(videos)]


def _index_shard(
  shard: Shard, indices: list[int], expected: FrameFormat
) -> list:
  """Name, frames, place, and why it is unusable, of some records."""
  spans = tfds_folder.locate(shard)
  found = []
  for i in indices:
    span = spans and spans[i]
    record = tfds_folder.read(shard, i, span)
    try:
      scene = Scene(record, expected)
    except SceneError as error:
      found.append(["", 0, span, error.reason, error.detail])
    else:
      found.append([scene.name, scene.num_frames, span, None, ""])
  return found


def frame_format(folder: TfdsFolder) -> FrameFormat:
  """Reads length and size of all videos from `features.json`.

  Args:
    folder: The data set.

  Returns:
    What it says; without the file, or in the form that early releases wrote,
    every record is taken at its word.

  Raises:
    ValueError: If the file describes no video.
  """
  features = folder.features()
  if "featuresDict" not in features:
    return FrameFormat()
  where = f"{folder.path / tfds_folder.FEATURES}: feature 'video'"
  try:
    video = features["featuresDict"]["features"]["video"]
    shape = video.get("video", {}).get("shape") or {
      "dimensions": [
        video["sequence"].get("length", -1),
        *video["sequence"]["feature"]["image"]["shape"]["dimensions"],
      ]
    }
    sizes = [int(size) for size in shape["dimensions"]]
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{where} is not described as a video ({error!r}): this is no MOVi"
    ) from error
  if len(sizes) != 4 or sizes[3] != 3:
    raise ValueError(f"{where} has shape {sizes}, expected [frames, h, w, 3]")
  # Sizes that vary are written as -1.
  return FrameFormat(*[size if size > 0 else None for size in sizes[:3]])
