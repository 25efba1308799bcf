"""One door to all clips: `open_source`.

A source is a random-access sequence of clips, which is what a grain data set
starts from. Its fingerprint identifies the clips themselves; latents made from
them remember it.
"""

import dataclasses
import hashlib
import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import mujoco
from ml_collections import ConfigDict

from forecasting.frames import cache, mirrored, mujoco_scenes
from forecasting.frames.clip import Clip

SPLITS = ("train", "eval", "futures")

# Data sets on disk: name to the function (data, split, root) that opens one.
# Imported only when asked for, so that one's decoder burdens no other.
READERS = {
  "grain": "user_clips:open_grain",
  "movi": "movi:open_movi",
  "perception_test": "perception_test:open_perception_test",
  "perception_test_boxes": "perception_test:open_perception_test",
  "scannet": "scannet:open_scannet",
  "tfds": "user_clips:open_tfds",
  "videos": "videos:open_videos",
  "waymo": "waymo:open_waymo",
}


# What a user puts into `data.path`.
DOWNLOADS = {
  "grain": "your own clips: ArrayRecord files, see frames/user_clips.py",
  "movi": "Kubric MOVi-E or -F as TFDS writes it: movi_e/256x256/1.0.0"
  " (gs://kubric-public/tfds, Apache-2.0)",
  "perception_test": "the Perception Test: videos/ and"
  " point_tracking_valid.json (github.com/google-deepmind/perception_test,"
  " CC-BY-4.0)",
  "perception_test_boxes": "the Perception Test: videos/ and all_valid.json"
  " (github.com/google-deepmind/perception_test, CC-BY-4.0)",
  "scannet": "ScanNet v2: scans/ and scannetv2_{train,val}.txt (by request from"
  " www.scan-net.org, about 1.3 TB with .sens)",
  "tfds": "a TFDS data set whose features are our clip schema",
  "videos": "your video files: .mp4, .webm, .mkv, .avi",
  "waymo": "Waymo Open, perception v2 (training/ and validation/ with"
  " camera_image/ and camera_box/) or v1 (*.tfrecord), waymo.com/open, by"
  " license agreement",
}


@runtime_checkable
class ClipSource(Protocol):
  """A sequence of clips.

  Attributes:
    name: of the data set.
    split: 'train', 'eval' or 'futures'.
    fingerprint: hash of everything that determines the clips.
    labels: which of 'depth', 'points', 'boxes' every clip carries.
    skipped: recordings left out, reason to count.
  """

  name: str
  split: str
  fingerprint: str
  labels: tuple[str, ...]
  skipped: dict[str, int]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Clip: ...


@dataclass(frozen=True)
class CachedSource:
  """Simulated clips, read from the cache."""

  name: str
  split: str
  fingerprint: str
  labels: tuple[str, ...]
  clips: cache.ShardReader
  skipped: dict[str, int] = field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.clips)

  def __getitem__(self, index: int) -> Clip:
    return self.clips[index]


def data_root(data: ConfigDict, workdir: Path) -> Path:
  """Returns where clips are kept: `data.root`, else a folder of the run."""
  return Path(data.root) if data.root else Path(workdir) / "data"


def open_source(data: ConfigDict, split: str, root: Path) -> ClipSource:
  """Opens a split of a data set, generating what is missing.

  Args:
    data: `config.data`. An optional `data.seed` (default 0) chooses other
      simulated scenes; it is not the training seed, so that runs with several
      seeds share their data. With an optional `data.random_flip` half of the
      training clips are mirrored, see `mirrored.py`.
    split: 'train', 'eval', or, simulated scenes only, 'futures': clip
      `context * futures_per_context + future`, where the clips of one context
      have bit-identical first `num_context` frames.
    root: folder for generated clips.

  Returns:
    The source.

  Raises:
    ValueError: if the data set or split is unknown, or the cache is damaged.
    OSError: if the cache cannot be written.
  """
  if split not in SPLITS:
    raise ValueError(f"split {split!r} is unknown; choose from {SPLITS}")
  if split == "eval" and data.get("eval_name"):
    data = ConfigDict({**data, "name": data.eval_name, "path": data.eval_path})
  if data.name in READERS:
    module, function = READERS[data.name].split(":")
    module = importlib.import_module(f"forecasting.frames.{module}")
    source = getattr(module, function)(data, split, Path(root))
  elif data.name == "mujoco_scenes":
    source = _open_scenes(data, split, Path(root))
  else:
    known = ", ".join(map(repr, ("mujoco_scenes", *READERS)))
    raise ValueError(f"data.name={data.name!r} is unknown; choose from {known}")
  if split == "train" and data.get("random_flip", False):
    return mirrored.mirror_some(source, data.get("seed", 0))
  return source


@dataclass(frozen=True)
class _MakeScene:
  """Clip of an index of a split."""

  config: mujoco_scenes.SceneConfig
  seed: int
  split: str
  futures: int  # per context

  def __call__(self, index: int) -> Clip:
    context, future = divmod(index, self.futures)
    split_id = mujoco_scenes.SPLITS[self.split]
    return mujoco_scenes.generate(
      self.config, self.seed, split_id, context, future
    )


def scene_config(data: ConfigDict) -> mujoco_scenes.SceneConfig:
  """Returns what all simulated scenes of a data set have in common."""
  return mujoco_scenes.SceneConfig(
    size=data.size,
    rays=data.rays,
    num_frames=data.num_frames,
    num_context=data.num_context,
    num_points=data.num_points,
    num_boxes=data.num_boxes,
    **data.scenes,
  )


def _open_scenes(data: ConfigDict, split: str, root: Path) -> CachedSource:
  """Generates or finds the simulated scenes of a split."""
  config = scene_config(data)
  futures = data.futures_per_context if split == "futures" else 1
  num_clips = {
    "train": data.train_clips,
    "eval": data.eval_clips,
    "futures": data.future_contexts * futures,
  }[split]
  make = _MakeScene(config, data.get("seed", 0), split, futures)
  fingerprint = _fingerprint(make)
  folder = root / f"{data.name}-{fingerprint}" / split
  title = f"{data.name} {split}"
  cache.fill(folder, num_clips, make, data.workers, title)
  return CachedSource(
    name=data.name,
    split=split,
    fingerprint=fingerprint,
    labels=mujoco_scenes.LABELS,
    clips=cache.ShardReader(folder, num_clips),
  )


def _fingerprint(make: _MakeScene) -> str:
  """Hashes what determines a split; how many clips it has is no part."""
  identity = dataclasses.asdict(make) | {
    "version": mujoco_scenes.VERSION,
    "mujoco": mujoco.__version__,
  }
  text = json.dumps(identity, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
