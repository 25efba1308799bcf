"""How much disk latents take, said and checked before they are made."""

import shutil
from pathlib import Path

import numpy as np

from forecasting.frames.clip import Clip
from forecasting.latents import records
from forecasting.latents.manifest import Manifest
from forecasting.latents.shards import StoreError

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def clip_bytes(manifest: Manifest, clip: Clip) -> int:
  """Returns the size of a clip's record: its latents, frames and labels.

  Args:
    manifest: of the store.
    clip: any; labels of all clips have the same shapes.
  """
  latents = {
    "context": np.zeros(manifest.context_shape, np.float32),
    "clip": np.zeros(manifest.clip_shape, np.float32),
  }
  return len(records.pack({**clip, **latents}, manifest))


def free_bytes(path: Path) -> int:
  """Returns what is free on the disk of a folder that may not exist yet."""
  path = path.absolute()
  while not path.exists():
    path = path.parent
  return shutil.disk_usage(path).free


def check_space(path: Path, num_bytes: int, remedy: str) -> None:
  """Stops if a disk has less room than is needed.

  Args:
    path: a folder on it.
    num_bytes: needed.
    remedy: what to change, for the message.

  Raises:
    StoreError: it has less; says how much.
  """
  free = free_bytes(path)
  if num_bytes > free:
    raise StoreError(
      f"the latents need {readable(num_bytes)}, the disk of {path} has "
      f"{readable(free)} free: {remedy}"
    )


def readable(num_bytes: int) -> str:
  """Returns a size in words, with two digits or more."""
  size, unit = float(num_bytes), 0
  while size >= 1000 and unit + 1 < len(_UNITS):
    size, unit = size / 1000, unit + 1
  digits = 1 if unit and size < 10 else 0
  return f"{size:.{digits}f} {_UNITS[unit]}"
