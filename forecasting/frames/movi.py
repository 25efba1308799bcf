"""Kubric MOVi (E and F): clips with point tracks, from the TFDS folder.

`data.path` is the folder of the download with `dataset_info.json`, or one
above it. A clip is `data.num_frames` consecutive frames (paper: 16 of 24) of a
video, the whole frame squeezed to the square. Training takes
`data.starts_per_video` starts of every video, drawn by `data.seed` and its
name; evaluation takes the middle of every video of the validation split.

Tracks are computed from depth, segments and poses (`movi_tracks.py`): of the
256 that Kubric's challenge would draw, `data.num_points` that are visible in
the clip's first frame; fewer are padded.

Every record is looked at once, when the data is opened first; those that give
no clips are counted by reason, and what was found is kept under `root`.
Source: tasks.md 4.3; where that says nothing, our choice.
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from forecasting.frames import (
  movi_index,
  movi_tracks,
  preprocess,
  tfds_folder,
  windows,
)
from forecasting.frames.clip import Clip
from forecasting.frames.clip_list import ClipList
from forecasting.frames.movi_index import SPLITS, Video
from forecasting.frames.movi_scene import Scene, SceneError
from forecasting.frames.preprocess import Window

VERSION = 1  # A change of what clips look like makes other clips.
FRAMES_PER_SECOND = 12
# Of Kubric's challenge: share of the frame and width over height.
CROP_AREA = (0.3, 1.0)
CROP_ASPECT = (0.5, 2.0)
_FAR = 8.0  # frames away; points there are out of view wherever they are


class Settings(NamedTuple):
  """What a clip looks like.

  Attributes:
    size: Rows and columns.
    num_frames: Frames.
    num_points: Tracks, with padding.
    seed: Of the random choices.
    random_crop: Whether a random part of the frames is taken.
  """

  size: int
  num_frames: int
  num_points: int
  seed: int
  random_crop: bool


def open_movi(data: ConfigDict, split: str, root: Path) -> ClipList:
  """Opens a split of a MOVi download.

  Args:
    data: `path`, `size`, `num_frames`, `num_points`, `train_clips`,
      `eval_clips`, `workers`. Optional `seed` (0), `starts_per_video` (1), and
      `random_crop` (False): training clips show a random part of the frame,
      as in Kubric's challenge; `max_recordings`: records looked at, spread
      over all.
    split: 'train' or 'eval', the splits 'train' and 'validation' on disk.
    root: Folder for what is remembered of the files; may be deleted.

  Returns:
    The split's clips, by the name of the video and then by time.

  Raises:
    FileNotFoundError: If there is no such folder.
    ValueError: If a file is missing, incomplete or damaged, or no clip is
      left; names it.
    OSError: If `root` cannot be written.
  """
  if split not in SPLITS:
    raise ValueError(f"movi has splits 'train' and 'eval', not {split!r}")
  if not data.path:
    raise ValueError(
      "data.path is not set: give the folder of MOVi, "
      "--config.data.path=FOLDER/movi_e/256x256/1.0.0"
    )
  folder = tfds_folder.find_folder(data.path)
  skipped: Counter[str] = Counter()
  videos = movi_index.index_videos(folder, split, Path(root), data, skipped)
  clips = choose_clips(videos, split, data)
  if not clips:
    raise ValueError(
      f"{folder.path} gives no {split} clip of {data.num_frames} frames; "
      f"skipped: {dict(skipped)}. Details are in the log."
    )
  settings = Settings(
    data.size,
    data.num_frames,
    data.num_points,
    data.get("seed", 0),
    bool(data.get("random_crop", False)) and split == "train",
  )
  ids = [_clip_id(split, video.name, start) for video, start in clips]
  listed = None
  if split == "eval":
    listed = windows.write_eval_list(Path(root), "movi", ids)
  files = {str(s.path.name): s.path.stat().st_size for s, *_ in videos}
  content = [VERSION, split, folder.name, ids, settings, files]
  return ClipList(
    clips,
    functools.partial(read_clip, split=split, settings=settings),
    name="movi",
    split=split,
    labels=("points",),
    fingerprint=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
    skipped=dict(skipped),
    eval_list_hash=listed,
  )


def choose_clips(
  videos: Sequence[Video], split: str, data: ConfigDict
) -> list[tuple[Video, int]]:
  """Lists video and first frame of the clips wanted.

  Args:
    videos: In order.
    split: 'train' or 'eval'.
    data: As of `open_movi`.

  Returns:
    By video and time, thinned to the number of clips of the split.
  """
  clips = []
  for video in videos:
    span = data.num_frames
    if split == "eval":
      starts = windows.even_starts(video.num_frames, span, 1)
    else:
      rng = _rng(data.get("seed", 0), f"{split}/{video.name}")
      possible = video.num_frames - span + 1
      count = min(possible, data.get("starts_per_video", 1))
      starts = sorted(rng.permutation(possible)[:count].tolist())
    clips.extend((video, start) for start in starts)
  return windows.spread(
    clips, data.train_clips if split == "train" else data.eval_clips
  )


def read_clip(item: tuple[Video, int], split: str, settings: Settings) -> Clip:
  """Reads one clip and computes its tracks.

  Args:
    item: Video and first frame.
    split: 'train' or 'eval'.
    settings: What the clip looks like.

  Returns:
    The clip, with tracks, visible and track_mask.

  Raises:
    ValueError: If its record is damaged; names file, record and feature.
  """
  video, start = item
  # Verified when the index was made; most of it is not needed now.
  record = tfds_folder.read(video.shard, video.index, video.span, False)
  clip_id = _clip_id(split, video.name, start)
  try:
    return make_clip(Scene(record), clip_id, start, settings)
  except SceneError as error:
    raise ValueError(
      f"{video.shard.path}: record {video.index} is damaged: {error}"
    ) from error


def make_clip(
  scene: Scene, clip_id: str, start: int, settings: Settings
) -> Clip:
  """Decodes a window of a video and computes its tracks.

  Args:
    scene: The record.
    clip_id: Its name; random choices follow from it and the seed.
    start: First frame.
    settings: What the clip looks like.

  Returns:
    The clip.

  Raises:
    SceneError: If an image does not decode.
  """
  rng = _rng(settings.seed, clip_id)
  window = draw_window(rng) if settings.random_crop else preprocess.FULL
  frames = range(start, start + settings.num_frames)
  geometry = scene.geometry(frames)
  queries = movi_tracks.draw_queries(
    geometry.segments, scene.num_instances, rng, window
  )
  tracks = movi_tracks.track(geometry, queries, window)
  points, visible = preprocess.crop_points(
    tracks.points.swapaxes(0, 1), ~tracks.occluded.T, window
  )
  kept = rng.permutation(np.flatnonzero(visible[0]))[: settings.num_points]
  shape = (settings.num_frames, settings.num_points)
  clip = {
    "video": preprocess.resize_and_crop(
      scene.video(frames), settings.size, window
    ),
    "seconds": np.arange(shape[0], dtype=np.float32) / FRAMES_PER_SECOND,
    "clip_id": np.asarray(clip_id),
    "start_frame": np.asarray(start, np.int32),
    "stride": np.asarray(1, np.int32),
    "tracks": np.zeros((*shape, 2), np.float32),
    "visible": np.zeros(shape, bool),
    "track_mask": np.arange(shape[1]) < len(kept),
  }
  clip["tracks"][:, : len(kept)] = np.clip(points[:, kept], -_FAR, _FAR)
  clip["visible"][:, : len(kept)] = visible[:, kept]
  return clip


def draw_window(rng: np.random.Generator) -> Window:
  """Draws a part of the frame, all of it if none fits after 100 draws.

  Source: tasks.md 4.3, step 7.
  """
  for _ in range(100):
    area, aspect = rng.uniform(*CROP_AREA), rng.uniform(*CROP_ASPECT)
    height, width = np.sqrt(area / aspect), np.sqrt(area * aspect)
    if height <= 1 and width <= 1:
      top, left = rng.uniform(0, [1 - height, 1 - width]).tolist()
      return Window(top, left, float(top + height), float(left + width))
  return preprocess.FULL


def _clip_id(split: str, name: str, start: int) -> str:
  return f"{SPLITS[split]}/{name}:{start}"


def _rng(seed: int, name: str) -> np.random.Generator:
  digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
  return np.random.default_rng([seed, int.from_bytes(digest, "big")])
