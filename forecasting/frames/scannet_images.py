"""ScanNet's images, decoded with suspicion.

Source: tasks.md 4.1.
"""

import io
import struct
import zlib

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

MAX_PIXELS = 1 << 26  # No sensor has more; guards what is decoded.


class DamagedError(ValueError):
  """Something that cannot be what the format says.

  Attributes:
    reason: One of the few reasons recordings and clips are counted by.
  """

  def __init__(self, reason: str, where: str, detail: str):
    super().__init__(f"{where}: {reason}: {detail}")
    self.reason = reason


def decode_color(
  blob: bytes,
  where: str,
  size: tuple[int, int] | None = None,
  codec: str = "unknown",
  reduce: int = 1,
) -> UInt8[np.ndarray, "h w 3"]:
  """Decodes a JPEG or PNG.

  Args:
    blob: The file's bytes.
    where: What it is, for the error.
    size: Expected width and height; any if None.
    codec: 'jpeg', 'png' or 'unknown', which is either.
    reduce: A JPEG may come smaller by up to this factor, which is faster.

  Returns:
    RGB.

  Raises:
    DamagedError: If it does not decode or has another size.
  """
  formats = ["JPEG", "PNG"] if codec == "unknown" else [codec.upper()]
  try:
    check_png(blob)
    with Image.open(io.BytesIO(blob), formats=formats) as image:
      if image.width * image.height > MAX_PIXELS or (
        size is not None and image.size != size
      ):
        detail = f"{image.width} x {image.height} pixels"
        if size is not None:
          detail += f", {size[0]} x {size[1]} expected"
        raise DamagedError("bad color", where, detail)
      if reduce > 1:
        smaller = (image.width // reduce, image.height // reduce)
        image.draft("RGB", smaller)
      return np.asarray(image.convert("RGB"))
  except DamagedError:
    raise
  # Pillow raises nearly anything on damaged files.
  except Exception as error:
    detail = " ".join(str(error).split()) or type(error).__name__
    raise DamagedError("bad color", where, detail) from error


def decode_depth_image(blob: bytes, where: str) -> UInt16[np.ndarray, "H W"]:
  """Decodes a depth map of 16 bits.

  Args:
    blob: A PNG's or PGM's bytes.
    where: What it is, for the error.

  Returns:
    Raw units.

  Raises:
    DamagedError: If it does not decode or has not 16 bits.
  """
  try:
    check_png(blob)
    with Image.open(io.BytesIO(blob), formats=["PNG", "PPM"]) as image:
      if not image.mode.startswith("I"):
        detail = f"a picture of mode {image.mode}, not 16 bits of depth"
        raise DamagedError("bad depth", where, detail)
      if image.width * image.height > MAX_PIXELS:
        detail = f"{image.width} x {image.height} pixels"
        raise DamagedError("bad depth", where, detail)
      raw = np.asarray(image)
  except DamagedError:
    raise
  # Pillow raises nearly anything on damaged files.
  except Exception as error:
    detail = " ".join(str(error).split()) or type(error).__name__
    raise DamagedError("bad depth", where, detail) from error
  if raw.min(initial=0) < 0 or raw.max(initial=0) > 65535:
    raise DamagedError("bad depth", where, "values beyond 16 bits")
  return raw.astype(np.uint16)


def check_png(blob: bytes) -> None:
  """Verifies the checksums of a PNG, which Pillow leaves out for its pixels.

  Args:
    blob: The file's bytes; anything but a PNG is let through.

  Raises:
    ValueError: If it is damaged or cut off.
  """
  if not blob.startswith(b"\x89PNG\r\n\x1a\n"):
    return
  start, kind = 8, b""
  while kind != b"IEND":
    length, kind = struct.unpack(">I4s", blob[start : start + 8])
    end = start + 8 + length
    if blob[end : end + 4] != struct.pack(
      ">I", zlib.crc32(blob[start + 4 : end])
    ):
      raise ValueError(f"the PNG is damaged at byte {start}")
    start = end + 4
