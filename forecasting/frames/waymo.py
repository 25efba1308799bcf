"""Waymo Open: clips of the front camera with boxes, from either release format.

`data.path` is the folder of the download. Version 2 (Parquet) is taken where
there is one: `{training,validation}/{camera_image,camera_box}/*.parquet`; else
version 1 (TFRecord): `individual_files/{training,validation}/*.tfrecord`, or
without the first folder. Both give the same clips.

The camera takes ten frames a second; a clip has every second one, in windows
without gaps: training windows start every `data.window_stride` kept frames (3
in the public protocol), evaluation windows do not overlap. The largest centered
square is cut out. Objects count if they are large enough in the first frame and
present long enough (`waymo_objects.py`).

Source: tasks.md 4.4; where that says nothing, our choice.
"""

import functools
import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict
from PIL import Image

from forecasting.frames import (
  file_index,
  preprocess,
  threads,
  waymo_objects,
  waymo_segment,
  waymo_v1,
  waymo_v2,
  windows,
)
from forecasting.frames.clip import Clip
from forecasting.frames.clip_list import ClipList
from forecasting.frames.waymo_segment import Segment

VERSION = 1  # A change of what clips look like makes other clips.
SPLITS = {"train": "training", "eval": "validation"}
STRIDE = 2  # 10 frames a second to 5 (paper)
STEP_SECONDS = (0.15, 0.25)  # that the median of the kept steps must be within
MAX_STEP_SECONDS = 0.3
MAX_PIXELS = 2**25  # of an image; the release has 2.5 million

BAD_RATE = "segment: not 10 frames a second"
NO_BOXES = "segment: no boxes"
NO_OBJECT = "clip: no object large and long enough"


class Place(NamedTuple):
  """A segment and its files.

  Attributes:
    segment: Frames and boxes.
    images: The file with the images.
    is_v2: Whether it is a Parquet file.
  """

  segment: Segment
  images: Path
  is_v2: bool


def open_waymo(data: ConfigDict, split: str, root: Path) -> ClipList:
  """Opens a split of a Waymo Open download.

  Args:
    data: `path`, `size`, `num_frames`, `num_boxes` (25 in the public protocol),
      `window_stride`, `train_clips`, `eval_clips`, `workers`. Optional
      `min_joint_frames` (0): frames in which all objects of a clip must be
      present together; the public protocol has 10. Optional
      `max_recordings`: segments looked at, spread over all.
    split: 'train' or 'eval', the folders `training` and `validation`.
    root: Folder for what is remembered of the files; may be deleted.

  Returns:
    The split's clips, by segment and time.

  Raises:
    FileNotFoundError: If there is no such folder or file.
    ValueError: If a file is damaged, or no clip is left; says why.
    OSError: If `root` cannot be written.
  """
  if split not in SPLITS:
    raise ValueError(f"waymo has splits 'train' and 'eval', not {split!r}")
  if not data.path:
    raise ValueError(
      "data.path is not set: give the folder of your Waymo Open download, "
      "--config.data.path=FOLDER"
    )
  skipped: Counter[str] = Counter()
  places = index_segments(Path(data.path), split, Path(root), data, skipped)
  clips = choose_clips(places, split, data, skipped)
  if not clips:
    raise ValueError(
      f"data.path={data.path!r} gives no {split} clip of {data.num_frames} "
      f"frames from {len(places)} segments; skipped: {dict(skipped)}"
    )
  logging.info(
    "waymo: %d %s clips of %d segments; skipped: %s",
    *(len(clips), split, len(places), dict(skipped)),
  )
  ids = [_clip_id(place.segment, start) for place, start in clips]
  listed = None
  if split == "eval":
    listed = windows.write_eval_list(Path(root), "waymo", ids)
  content = [VERSION, split, data.size, data.num_frames, data.num_boxes, ids]
  digest = hashlib.sha256(json.dumps(content).encode())
  for place in {place.segment.name: place for place, _ in clips}.values():
    state = [place.images.stat().st_size, place.segment.to_json()]
    digest.update(json.dumps(state).encode())
  sizes = {
    "size": data.size,
    "num_frames": data.num_frames,
    "num_boxes": data.num_boxes,
  }
  return ClipList(
    clips,
    functools.partial(read_clip, **sizes),
    name="waymo",
    split=split,
    labels=("boxes",),
    fingerprint=digest.hexdigest(),
    skipped=dict(skipped),
    eval_list_hash=listed,
  )


def index_segments(
  folder: Path,
  split: str,
  root: Path,
  data: ConfigDict,
  skipped: Counter[str],
) -> list[Place]:
  """Finds and indexes the segments of a split.

  Args:
    folder: Of the download.
    split: 'train' or 'eval'.
    root: Folder for what is remembered.
    data: As of `open_waymo`.
    skipped: What is left out is counted here.

  Returns:
    The segments in the order of their names.

  Raises:
    FileNotFoundError: If there are none.
    ValueError: If a file is damaged; names it.
    OSError: If one cannot be read, or `root` not be written.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f"data.path={str(folder)!r} does not exist")
  files: dict[str, tuple[Path, ...]] = {}
  base = folder / SPLITS[split]
  if any((base / part).is_dir() for part in (waymo_v2.IMAGES, waymo_v2.BOXES)):
    files, lacking = waymo_v2.list_segments(base)
    skipped.update(lacking)
    read, is_v2 = waymo_v2.index_segment, True
  else:
    read, is_v2 = waymo_v1.index_segment, False
    for parent in (folder / "individual_files" / SPLITS[split], base):
      found = waymo_v1.list_segments(parent)
      files = files or {name: (path,) for name, path in found.items()}
  if not files:
    raise FileNotFoundError(
      f"{folder} has no {split} segments: expected {SPLITS[split]}/"
      "{camera_image,camera_box}/*.parquet (version 2) or individual_files/"
      f"{SPLITS[split]}/*.tfrecord (version 1); incomplete: {dict(skipped)}"
    )

  files = dict(windows.spread(list(files.items()), data.get("max_recordings")))

  def index(item: tuple[str, tuple[Path, ...]]) -> Place:
    name, paths = item
    content = file_index.remember(
      root, "waymo", paths, VERSION, lambda: read(name, *paths).to_json()
    )
    return Place(waymo_segment.from_json(content), paths[0], is_v2)

  places = threads.map_threads(
    index, files.items(), data.workers, f"waymo {split}: indexing", "segment"
  )
  for place in places:
    skipped.update(place.segment.skipped)
  return places


def choose_clips(
  places: Sequence[Place], split: str, data: ConfigDict, skipped: Counter[str]
) -> list[tuple[Place, int]]:
  """Lists segment and first frame of the clips wanted.

  Args:
    places: In order.
    split: 'train' or 'eval'.
    data: As of `open_waymo`.
    skipped: Segments and clips left out are counted here.

  Returns:
    By segment and time, thinned to the number of clips of the split.
  """
  step = data.window_stride if split == "train" else data.num_frames
  clips = []
  for place in places:
    segment = place.segment
    kept = segment.timestamps[::STRIDE]
    steps = np.diff(kept) / 1e6
    if not len(segment.boxes):
      skipped[NO_BOXES] += 1
      continue
    if len(steps) and not (
      STEP_SECONDS[0] <= np.median(steps) <= STEP_SECONDS[1]
    ):
      skipped[BAD_RATE] += 1
      continue
    ends = [*(np.flatnonzero(steps > MAX_STEP_SECONDS) + 1), len(kept)]
    begin = 0
    for end in ends:
      for start in range(begin, end - data.num_frames + 1, step):
        frames = clip_frames(start * STRIDE, data.num_frames)
        objects = waymo_objects.select_objects(segment, frames, data.num_boxes)
        together = objects.box_mask[:, objects.kept].all(1).sum()
        if objects.kept.any() and together >= data.get("min_joint_frames", 0):
          clips.append((place, start * STRIDE))
        else:
          skipped[NO_OBJECT] += 1
      begin = end
  return windows.spread(
    clips, data.train_clips if split == "train" else data.eval_clips
  )


def clip_frames(start: int, num_frames: int) -> Int[np.ndarray, "T"]:
  """Returns the camera's frames that a clip shows."""
  return start + STRIDE * np.arange(num_frames)


def read_clip(
  item: tuple[Place, int], size: int, num_frames: int, num_boxes: int
) -> Clip:
  """Reads one clip.

  Args:
    item: Segment and first frame.
    size: Rows and columns.
    num_frames: Frames.
    num_boxes: Objects, with padding.

  Returns:
    The clip, with boxes, box_mask, object_mask and object_ids.

  Raises:
    ValueError: If an image is damaged; names file and time.
  """
  place, start = item
  segment = place.segment
  frames = clip_frames(start, num_frames)
  times = segment.timestamps[frames]
  video = np.empty((num_frames, size, size, 3), np.uint8)
  for k, (file, time) in enumerate(zip(_read_images(place, frames), times)):
    video[k] = _decode(file, size, f"{place.images} at {time} us")
  clip = {
    "video": video,
    "seconds": ((times - times[0]) / 1e6).astype(np.float32),
    "clip_id": np.asarray(_clip_id(segment, start)),
    "start_frame": np.asarray(start, np.int32),
    "stride": np.asarray(STRIDE, np.int32),
  }
  objects = waymo_objects.select_objects(segment, frames, num_boxes)
  return clip | waymo_objects.pad_objects(objects, num_boxes)


def _read_images(place: Place, frames: np.ndarray) -> list[bytes]:
  places = [place.segment.places[frame] for frame in frames]
  if not place.is_v2:
    return waymo_v1.read_images(place.images, places)
  wanted = place.segment.places[::STRIDE]
  return waymo_v2.read_images(place.images, places, wanted)


def _decode(
  file: bytes, size: int, where: str
) -> UInt8[np.ndarray, "size size 3"]:
  """The square of a JPEG file."""
  try:
    with Image.open(io.BytesIO(file), formats=["JPEG"]) as image:
      if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels")
      pixels = np.asarray(image.convert("RGB"))
  except (OSError, SyntaxError, ValueError) as error:
    raise ValueError(f"{where}: the image does not decode: {error}") from error
  return preprocess.resize_and_crop(pixels[None], size, waymo_objects.WINDOW)[0]


def _clip_id(segment: Segment, start: int) -> str:
  return f"{segment.name}:{start}"
