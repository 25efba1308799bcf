"""ScanNet's .sens files, version 4: a header, RGB-D frames, IMU records.

Little-endian, without padding. Frames have any size, so their offsets are
found by walking the file once; the index is cached. Nothing that the file
claims is believed before its size was compared with it, so that damage never
asks for more memory than the file has bytes.

| bytes       | field of the header                                         |
|-------------|-------------------------------------------------------------|
| 4           | uint32 version, 4                                           |
| 8, n        | uint64 n, sensor name                                       |
| 4 x 64      | float32 4x4: color intrinsic, extrinsic; depth the same     |
| 4, 4        | int32 compression of color and of depth                     |
| 4 x 4       | uint32 color width, height; depth width, height             |
| 4           | float32 depth shift: raw / shift is in meters               |
| 8           | uint64 number of frames                                     |

| bytes       | field of a frame                                            |
|-------------|-------------------------------------------------------------|
| 64          | float32 4x4 camera to world, -inf where tracking was lost   |
| 4 x 8       | uint64 color time, depth time, color bytes a, depth bytes b |
| a, b        | color image; depth map                                      |

After the frames, possibly: uint64 m and m IMU records of 128 bytes.

Source: tasks.md 4.1.
"""

import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from forecasting.frames.scannet_images import (
  MAX_PIXELS,
  DamagedError,
  decode_color,
)

VERSION = 4
COLOR_CODECS = {-1: "unknown", 0: "raw", 1: "png", 2: "jpeg"}
DEPTH_CODECS = {-1: "unknown", 0: "raw", 1: "zlib", 2: "occi"}
MAX_NAME = 4096

_FRAME = struct.Struct("<64x4Q")
# More than any codec makes of the pixels; beyond it a size is damage.
_SPARE_BYTES = 1 << 16
_IMU_BYTES = 128
_FIRST_FRAMES = 16
_LEAST_SHARE = 0.5  # of the bytes that the first frames make likely


class Header(NamedTuple):
  """What the file says before its first frame.

  Attributes:
    sensor: Name.
    intrinsics: Float32 [4 4 4]: color intrinsic, color extrinsic, depth
      intrinsic, depth extrinsic.
    color_codec: A value of `COLOR_CODECS`.
    depth_codec: A value of `DEPTH_CODECS`.
    color_size: Width, height.
    depth_size: Width, height.
    depth_shift: Raw units of a meter.
    num_frames: RGB-D frames.
    end: Offset of the first frame.
  """

  sensor: str
  intrinsics: np.ndarray
  color_codec: str
  depth_codec: str
  color_size: tuple[int, int]
  depth_size: tuple[int, int]
  depth_shift: float
  num_frames: int
  end: int


class SensFile:
  """Random access to the frames of a .sens file.

  Attributes:
    path: Of the file.
    header: Its `Header`.
    index: Uint64 [num_frames + 1, 5]: per frame its offset, color time, depth
      time, color bytes and depth bytes; last, the offset after all frames.
  """

  def __init__(self, path: Path, index: np.ndarray | None = None):
    """Reads header and index.

    Args:
      path: The file.
      index: Of an earlier reading of the same file; made if None, or if it
        cannot be of this file.

    Raises:
      DamagedError: If the file is no .sens file of version 4, or is cut off.
      OSError: If it cannot be read.
    """
    self.path = path
    with path.open("rb") as stream:
      self.header = _read_header(stream, path)
      if index is None or not _fits(index, self.header):
        index = _read_index(stream, path, self.header)
    self.index = index

  def __len__(self) -> int:
    """Returns the number of RGB-D frames."""
    return self.header.num_frames

  def color_bytes(self, i: int) -> bytes:
    """Returns the color image of a frame as it is stored.

    Raises:
      DamagedError: If the file ends before it.
    """
    offset, _, _, size, _ = map(int, self.index[i])
    return self._read(i, "color", offset + _FRAME.size, size)

  def color(self, i: int, reduce: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes the color image of a frame.

    Args:
      i: The frame.
      reduce: A JPEG may come smaller by up to this factor, which is faster.

    Returns:
      RGB.

    Raises:
      DamagedError: If it does not decode, or has another size than announced.
    """
    header, blob = self.header, self.color_bytes(i)
    if header.color_codec == "raw":
      width, height = header.color_size
      if len(blob) != 3 * width * height:
        detail = f"{len(blob)} bytes, {3 * width * height} expected"
        raise DamagedError("bad color", f"{self.path}, frame {i}", detail)
      return np.frombuffer(blob, np.uint8).reshape(height, width, 3)
    return decode_color(
      blob,
      f"{self.path}, frame {i}",
      size=header.color_size,
      codec=header.color_codec,
      reduce=reduce,
    )

  def depth(self, i: int) -> UInt16[np.ndarray, "h w"]:
    """Decodes the depth map of a frame, in raw units, 0 where there is none.

    Raises:
      DamagedError: If it does not decode, or has another size than announced.
    """
    offset, _, _, before, size = map(int, self.index[i])
    blob = self._read(i, "depth", offset + _FRAME.size + before, size)
    width, height = self.header.depth_size
    expected = 2 * width * height
    where = f"{self.path}, frame {i}"
    if self.header.depth_codec == "zlib":
      inflate = zlib.decompressobj()
      try:
        # One byte more than expected tells too long from right.
        blob = inflate.decompress(blob, expected + 1)
      except zlib.error as error:
        raise DamagedError("bad depth", where, str(error)) from error
      if len(blob) <= expected and not inflate.eof:
        raise DamagedError("bad depth", where, "the zlib stream is cut off")
    if len(blob) != expected:
      found = f"over {expected}" if len(blob) > expected else str(len(blob))
      detail = f"{found} bytes, {expected} expected ({width} x {height})"
      raise DamagedError("bad depth", where, detail)
    return np.frombuffer(blob, "<u2").reshape(height, width).astype(np.uint16)

  def pose(self, i: int) -> Float[np.ndarray, "4 4"]:
    """Returns camera to world of a frame; -inf where tracking was lost."""
    blob = self._read(i, "pose", int(self.index[i, 0]), 64)
    return np.frombuffer(blob, "<f4").reshape(4, 4).astype(np.float32)

  def num_imu_records(self) -> int | None:
    """Counts the IMU records after the frames.

    Returns:
      Their number; None if the file ends with its frames.

    Raises:
      DamagedError: If the count does not fit what is left of the file.
    """
    start, size = int(self.index[-1, 0]), self.path.stat().st_size
    if size == start:
      return None
    count = struct.unpack("<Q", self._read(-1, "IMU count", start, 8))[0]
    if size - start - 8 != count * _IMU_BYTES:
      raise DamagedError(
        "bad IMU block",
        f"{self.path}, offset {start}",
        f"{count} records do not fit the {size - start - 8} bytes left",
      )
    return count

  def _read(self, i: int, what: str, offset: int, size: int) -> bytes:
    """Reads part of a frame; the index has checked that it is there."""
    with self.path.open("rb", buffering=0) as stream:
      blob = os.pread(stream.fileno(), size, offset)
      while 0 < len(blob) < size:
        more = os.pread(stream.fileno(), size - len(blob), offset + len(blob))
        if not more:
          break
        blob += more
    if len(blob) != size:
      raise DamagedError(
        "cut off",
        f"{self.path}, offset {offset + len(blob)}",
        f"the file ends within {what} of frame {i}",
      )
    return blob


def check_size(path: Path) -> None:
  """Looks at a file's first frames, and whether the others can be there.

  Walking over all frames takes thousands of reads. This finds a file that was
  cut off in its first half, or that is no .sens file.

  Args:
    path: The file.

  Raises:
    DamagedError: If it is damaged or too short.
    OSError: If it cannot be read.
  """
  with path.open("rb") as stream:
    header = _read_header(stream, path)
    some = header._replace(num_frames=min(header.num_frames, _FIRST_FRAMES))
    index = _read_index(stream, path, some)
    size = os.fstat(stream.fileno()).st_size
  if some.num_frames == 0:
    return
  taken = int(index[-1, 0]) - header.end
  likely = taken * header.num_frames // some.num_frames
  if size - header.end < _LEAST_SHARE * likely:
    raise DamagedError(
      "cut off",
      f"{path}, offset {size}",
      f"{header.num_frames} frames like the first {some.num_frames} are "
      f"{likely} bytes; download it again",
    )


def _read_header(stream: BinaryIO, path: Path) -> Header:
  """Reads and checks every field of the header."""

  def take(what: str, form: str):
    size = struct.calcsize(form)
    blob = stream.read(size)
    if len(blob) != size:
      raise DamagedError(
        "cut off", f"{path}, offset {stream.tell()}", f"within {what}"
      )
    return struct.unpack(form, blob)

  def refuse(reason: str, offset: int, detail: str):
    raise DamagedError(reason, f"{path}, offset {offset}", detail)

  (version,) = take("version", "<I")
  if version != VERSION:
    refuse("wrong version", 0, f"{version}; only {VERSION} is known")
  (length,) = take("length of the sensor name", "<Q")
  if length > MAX_NAME:
    refuse("bad header", 4, f"a sensor name of {length} bytes")
  (name,) = take("sensor name", f"<{length}s")
  matrices = take("camera matrices", "<64f")
  at = stream.tell()
  codecs = take("compression", "<2i")
  if codecs[0] not in COLOR_CODECS:
    refuse("bad header", at, f"color compression {codecs[0]}")
  if codecs[1] not in DEPTH_CODECS:
    refuse("bad header", at + 4, f"depth compression {codecs[1]}")
  if DEPTH_CODECS[codecs[1]] not in ("raw", "zlib"):
    refuse(
      "unsupported depth codec",
      at + 4,
      f"{DEPTH_CODECS[codecs[1]]}; raw and zlib can be read",
    )
  at = stream.tell()
  *sizes, shift = take("sizes", "<4If")
  for which, (width, height) in (("color", sizes[:2]), ("depth", sizes[2:])):
    if not 0 < width * height <= MAX_PIXELS:
      refuse("bad header", at, f"{which} of {width} x {height} pixels")
  if not 1e-3 <= shift <= 1e7:  # Meters stay finite.
    refuse("bad header", at + 16, f"depth shift {shift}")
  (num_frames,) = take("number of frames", "<Q")
  return Header(
    sensor=name.decode("utf-8", "replace"),
    intrinsics=np.asarray(matrices, np.float32).reshape(4, 4, 4),
    color_codec=COLOR_CODECS[codecs[0]],
    depth_codec=DEPTH_CODECS[codecs[1]],
    color_size=(sizes[0], sizes[1]),
    depth_size=(sizes[2], sizes[3]),
    depth_shift=shift,
    num_frames=num_frames,
    end=stream.tell(),
  )


def _fits(index: np.ndarray, header: Header) -> bool:
  """Whether an index may be of a file with this header."""
  if index.shape != (header.num_frames + 1, 5) or index.dtype != np.uint64:
    return False
  sizes = _FRAME.size + index[:-1, 3] + index[:-1, 4]
  return index[0, 0] == header.end and bool(
    np.all(np.diff(index[:, 0]) == sizes)
  )


def _read_index(stream: BinaryIO, path: Path, header: Header) -> np.ndarray:
  """Walks over the frames; see `SensFile.index`."""
  size = os.fstat(stream.fileno()).st_size
  room = (size - header.end) // _FRAME.size
  if header.num_frames > room:
    raise DamagedError(
      "cut off",
      f"{path}, offset {header.end - 8}",
      f"{header.num_frames} frames announced, room for at most {room}",
    )
  index = np.zeros((header.num_frames + 1, 5), np.uint64)
  limits = (
    8 * math.prod(header.color_size) + _SPARE_BYTES,
    4 * math.prod(header.depth_size) + _SPARE_BYTES,
  )
  offset = header.end
  for i in range(header.num_frames):
    blob = os.pread(stream.fileno(), _FRAME.size, offset)
    if len(blob) == _FRAME.size:
      fields = _FRAME.unpack(blob)
      after = offset + _FRAME.size + fields[2] + fields[3]
    if len(blob) < _FRAME.size or after > size:
      raise DamagedError(
        "cut off",
        f"{path}, offset {offset}",
        f"frame {i} of {header.num_frames} goes beyond the end, {size}",
      )
    if fields[2] > limits[0] or fields[3] > limits[1]:
      raise DamagedError(
        "bad frame size",
        f"{path}, offset {offset + 80}",
        f"frame {i} has {fields[2]} bytes of color and {fields[3]} of depth",
      )
    index[i] = (offset, *fields)
    offset = after
  index[-1, 0] = offset
  return index
