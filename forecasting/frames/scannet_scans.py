"""One recording of ScanNet, as a .sens file or extracted to images.

Both give frames by number, so what uses them need not know which it is:

| layout            | files                                                 |
|-------------------|-------------------------------------------------------|
| .sens             | `<scan>.sens`                                         |
| Python exporter   | `color/<i>.jpg`, `depth/<i>.png`                      |
| C++ exporter      | `frame-<i>.color.jpg`, `frame-<i>.depth.pgm` or .png  |

Source: tasks.md 4.1.
"""

import os
import re
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from forecasting.frames.scannet_images import (
  DamagedError,
  decode_color,
  decode_depth_image,
)
from forecasting.frames.scannet_sens import SensFile

FPS = 30.0  # Nominal; ScanNet's sensor.
DEPTH_SHIFT = 1000.0  # Raw units of a meter in the released scans.
MAX_STEP_SECONDS = 1.0

_IMAGES = re.compile(r"(\d{1,6})\.(jpg|jpeg|png|pgm)")
_CPP_IMAGES = re.compile(r"frame-(\d{1,6})\.(color|depth)\.(jpg|jpeg|png|pgm)")


@runtime_checkable
class Scan(Protocol):
  """A recording.

  Attributes:
    num_frames: One past the last frame's number.
    depth_shift: Raw depth units of a meter.
  """

  num_frames: int
  depth_shift: float

  def missing(self, i: int, what: str) -> bool: ...

  def color(self, i: int, reduce: int = 1) -> UInt8[np.ndarray, "H W 3"]: ...

  def depth(self, i: int) -> np.ndarray: ...

  def seconds(self, start: int, count: int) -> np.ndarray: ...


class SensScan:
  """A recording in a .sens file; see `Scan`."""

  def __init__(self, path: Path, index: np.ndarray | None = None):
    self.file = SensFile(path, index)
    self.num_frames = len(self.file)
    self.depth_shift = self.file.header.depth_shift

  def missing(self, i: int, what: str) -> bool:
    """Never: frames of a file follow each other."""
    return False

  def color(self, i: int, reduce: int = 1) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes a color image; see `SensFile.color`."""
    return self.file.color(i, reduce)

  def depth(self, i: int) -> np.ndarray:
    """Decodes a depth map, raw; see `SensFile.depth`."""
    return self.file.depth(i)

  def seconds(self, start: int, count: int) -> Float[np.ndarray, "T"]:
    """Returns times of frames from the first one of them on.

    Args:
      start: First frame.
      count: Frames.

    Returns:
      From the color timestamps, if these are times: increasing, less than a
      second apart. Else at the nominal rate.
    """
    stamps = self.file.index[start : start + count, 1].astype(np.float64) / 1e6
    steps = np.diff(stamps)
    # Less than a tenth of the nominal step is no camera.
    if np.all((steps > 0.1 / FPS) & (steps < MAX_STEP_SECONDS)):
      return (stamps - stamps[0]).astype(np.float32)
    return nominal_seconds(count)


class ExtractedScan:
  """A recording extracted to images; see `Scan`."""

  def __init__(self, folder: Path):
    """Lists the images of a folder.

    Args:
      folder: Of one recording.

    Raises:
      DamagedError: If it holds no color image or an unusable depth shift.
    """
    self.folder = folder
    self.files: dict[str, dict[int, str]] = {"color": {}, "depth": {}}
    for what, files in self.files.items():
      if (folder / what).is_dir():
        for name in sorted(os.listdir(folder / what)):
          if match := _IMAGES.fullmatch(name):
            files.setdefault(int(match[1]), f"{what}/{name}")
    if not self.files["color"]:
      for name in sorted(os.listdir(folder)):
        if match := _CPP_IMAGES.fullmatch(name):
          self.files[match[2]].setdefault(int(match[1]), name)
    if not self.files["color"]:
      raise DamagedError("no frames", str(folder), "no color image in it")
    self.num_frames = 1 + max(self.files["color"])
    self.depth_shift = _depth_shift(folder / "_info.txt")

  def missing(self, i: int, what: str) -> bool:
    """Whether there is no 'color' or no 'depth' image of a frame."""
    return i not in self.files[what]

  def color(self, i: int, reduce: int = 1) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes a color image.

    Args:
      i: The frame.
      reduce: It may come smaller by up to this factor, which is faster.

    Returns:
      RGB.

    Raises:
      DamagedError: If it does not decode.
    """
    path = self.folder / self.files["color"][i]
    return decode_color(path.read_bytes(), str(path), reduce=reduce)

  def depth(self, i: int) -> np.ndarray:
    """Decodes a depth map in raw units, 0 where there is none.

    Raises:
      DamagedError: If it does not decode or has not 16 bits.
    """
    path = self.folder / self.files["depth"][i]
    return decode_depth_image(path.read_bytes(), str(path))

  def seconds(self, start: int, count: int) -> Float[np.ndarray, "T"]:
    """Returns times at the nominal rate: the images carry none."""
    return nominal_seconds(count)


def nominal_seconds(count: int) -> Float[np.ndarray, "T"]:
  """Returns times of frames at the nominal rate."""
  return (np.arange(count) / FPS).astype(np.float32)


def find_scan(folders: list[Path], name: str) -> Path | None:
  """Finds a recording.

  Args:
    folders: Where recordings are.
    name: Of the recording.

  Returns:
    Its .sens file, else the folder of its images; None if there is neither.
  """
  for folder in folders:
    for path in (folder / name / f"{name}.sens", folder / f"{name}.sens"):
      if path.is_file():
        return path
  for folder in folders:
    scan = folder / name
    if (scan / "color").is_dir() or (scan / "frame-000000.color.jpg").exists():
      return scan
  return None


def _depth_shift(info: Path) -> float:
  """Depth shift of the C++ exporter's notes, or the released scans'."""
  if not info.exists():
    return DEPTH_SHIFT
  text = info.read_text("utf-8", "replace")
  match = re.search(r"m_depthShift\s*=\s*(\S+)", text)
  try:
    shift = float(match[1]) if match else DEPTH_SHIFT
  except ValueError:
    shift = 0.0
  if not 1e-3 <= shift <= 1e7:  # Meters stay finite.
    raise DamagedError("bad header", str(info), f"m_depthShift {match[1]}")
  return shift
