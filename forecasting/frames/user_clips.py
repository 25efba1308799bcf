"""Clips that a user already has in our schema, from TFDS or from Python.

'tfds': `data.path` is the folder of a prepared data set of
tensorflow-datasets in the ArrayRecord format, whose features are named as in
`clip.py`; it is read through its random-access data source, without
TensorFlow.

'grain': `data.path` is `package.module:function`; `function(split)` returns
anything with `__len__` and `__getitem__` that gives such clips, as Grain's
sources do. If it has a `fingerprint`, that should change with its clips.

In both, `start_frame` (0), `stride` (1) and `clip_id` may be missing, further
keys are left out, longer clips are cut to `data.num_frames`, and frames of
another size are squeezed to `data.size`.
"""

import functools
import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from ml_collections import ConfigDict

from forecasting.frames import preprocess, windows
from forecasting.frames.clip import (
  LABEL_KEYS,
  Clip,
  clip_labels,
  validate_clip,
)
from forecasting.frames.clip_list import ClipList

EVAL_SPLITS = ("eval", "validation", "valid", "val", "test")
_PER_FRAME = ("seconds", "depth", "tracks", "visible", "boxes", "box_mask")
_ALWAYS = ("seconds", "clip_id", "start_frame", "stride")


@runtime_checkable
class Elements(Protocol):
  """Random access to a user's elements."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Mapping[str, Any]: ...


def list_clips(
  elements: Elements,
  data: ConfigDict,
  *,
  split: str,
  identity: object,
  root: Path,
) -> ClipList:
  """Chooses the clips of a split.

  Args:
    elements: A user's.
    data: `name`, `path`, `size`, `num_frames`, `train_clips`, `eval_clips`.
    split: 'train' or 'eval'.
    identity: What is known to determine the elements.
    root: Folder for the list of scored clips.

  Returns:
    The clips. Their labels are those of the first one, which all must have; a
    clip that breaks the rules is an error.

  Raises:
    ValueError: If there is none, or the first one breaks the rules.
  """
  cap = data.train_clips if split == "train" else data.eval_clips
  some = windows.spread(range(len(elements)), data.get("max_recordings"))
  indices = windows.spread(some, cap)
  if not indices:
    raise ValueError(f"data.path={data.path!r} holds no {split} clip")
  read = functools.partial(
    read_clip,
    elements=elements,
    where=(data.name, split),
    size=data.size,
    num_frames=data.num_frames,
  )
  labels = clip_labels(read(indices[0]))
  content = [identity, split, data.size, data.num_frames, indices]
  text = json.dumps(content, default=str)
  listed = None
  if split == "eval":
    ids = [str(read(index)["clip_id"]) for index in indices]
    listed = windows.write_eval_list(root, data.name, ids)
  return ClipList(
    indices,
    functools.partial(read, labels=labels),
    name=data.name,
    split=split,
    labels=labels,
    fingerprint=hashlib.sha256(text.encode()).hexdigest(),
    skipped={},
    eval_list_hash=listed,
  )


def read_clip(
  index: int,
  elements: Elements,
  where: tuple[str, str],
  size: int,
  num_frames: int,
  labels: tuple[str, ...] | None = None,
) -> Clip:
  """Reads an element as a clip.

  Args:
    index: Which one.
    elements: A user's.
    where: Data set and split, for messages.
    size: Rows and columns.
    num_frames: Frames.
    labels: That it must have; None is any.

  Returns:
    The clip.

  Raises:
    ValueError: If it breaks the rules of `clip.py`; names the key.
  """
  name, split = where
  try:
    element = dict(elements[index])
    default = f"{split}/{index}"
    clip = validate_clip(_convert(element, default, size, num_frames))
    if labels is not None and clip_labels(clip) != labels:
      raise ValueError(
        f"it has the labels {clip_labels(clip)}, the first one {labels}"
      )
  except (IndexError, KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"data.name={name!r}, {split}, element {index}: {error}"
    ) from error
  return clip


def _convert(
  element: dict[str, Any], default_id: str, size: int, num_frames: int
) -> Clip:
  """An element in our types, shapes and sizes."""
  if "video" not in element:
    raise ValueError(f"no key 'video', only {sorted(element)}")
  video = np.asarray(element["video"])
  if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3:
    raise ValueError(f"'video' is {video.dtype} {video.shape}, not T H W 3")
  video = video[:num_frames]
  if len(video) < num_frames:
    raise ValueError(f"{len(video)} frames, {num_frames} needed")
  known = {*_ALWAYS, *(key for keys in LABEL_KEYS.values() for key in keys)}
  clip = {
    key: np.asarray(value) for key, value in element.items() if key in known
  }
  for key in clip.keys() & set(_PER_FRAME):
    clip[key] = clip[key][:num_frames]
  if video.shape[1:3] != (size, size):
    video = preprocess.resize_and_crop(video, size, preprocess.FULL)
  if "depth" in clip and clip["depth"].shape[1:3] != video.shape[1:3]:
    clip["depth"] = preprocess.crop_depth(clip["depth"], size, preprocess.FULL)
  name = element.get("clip_id", default_id)
  name = np.asarray(name).item()
  clip |= {
    "video": video,
    "clip_id": np.asarray(name.decode() if type(name) is bytes else name),
    "start_frame": np.asarray(clip.get("start_frame", 0), np.int32),
    "stride": np.asarray(clip.get("stride", 1), np.int32),
  }
  return clip


def open_tfds(data: ConfigDict, split: str, root: Path) -> ClipList:
  """Opens a prepared data set of tensorflow-datasets.

  Args:
    data: `path`, `size`, `num_frames`, `train_clips`, `eval_clips`.
    split: 'train', or 'eval' for the first there is of `EVAL_SPLITS`.
    root: Folder for the list of scored clips.

  Returns:
    The clips.

  Raises:
    FileNotFoundError: If there is no data set.
    ValueError: If it cannot be read, or its first clip breaks the rules.
  """
  _check(data, split, "the folder of a prepared data set")
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder_from_directory(data.path)
    known = builder.info.splits
    wanted = ("train",) if split == "train" else EVAL_SPLITS
    (name, *_) = [name for name in wanted if name in known] or [None]
    if name is None:
      raise ValueError(f"no split of {wanted}, only {sorted(known)}")
    elements = builder.as_data_source(split=name)
  except FileNotFoundError:
    raise
  except (ImportError, NotImplementedError, OSError, ValueError) as error:
    raise ValueError(
      f"data.path={data.path!r} cannot be read as a TFDS data set without "
      f"TensorFlow (ArrayRecord files, features of arrays): {error}"
    ) from error
  info = known[name]
  identity = [builder.info.full_name, name, info.num_bytes, info.shard_lengths]
  return list_clips(elements, data, split=split, identity=identity, root=root)


def open_grain(data: ConfigDict, split: str, root: Path) -> ClipList:
  """Opens a source that a user's function returns.

  Args:
    data: `path`, `size`, `num_frames`, `train_clips`, `eval_clips`.
    split: 'train' or 'eval', given to the function.
    root: Folder for the list of scored clips.

  Returns:
    The clips.

  Raises:
    ValueError: If there is no such function, or its first clip breaks the
      rules.
  """
  _check(data, split, "package.module:function")
  module, _, function = data.path.partition(":")
  try:
    open_split: Callable[[str], Elements] = getattr(
      importlib.import_module(module), function
    )
  except (ImportError, AttributeError, ValueError) as error:
    raise ValueError(
      f"data.path={data.path!r} is no package.module:function that can be "
      f"imported: {error}"
    ) from error
  elements = open_split(split)
  mark = getattr(elements, "fingerprint", len(elements))
  return list_clips(
    elements, data, split=split, identity=[data.path, mark], root=root
  )


def _check(data: ConfigDict, split: str, expected: str) -> None:
  if split not in ("train", "eval"):
    raise ValueError(
      f"{data.name} has splits 'train' and 'eval', not {split!r}"
    )
  if not data.path:
    raise ValueError(f"data.path is not set: give {expected}")
