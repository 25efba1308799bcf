"""Protobuf messages, TFRecord and PNG files, for the tests of the readers.

Written from the formats' descriptions, without the package's own readers.
"""

import itertools
import struct
import zlib

import numpy as np


def varint(value):
  """An integer, negative ones as 64 bits."""
  value %= 1 << 64
  parts = bytearray()
  while value >= 0x80:
    parts.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*parts, value])


def field(number, value):
  """One field: an integer, a double, or anything with a length."""
  if isinstance(value, float):
    return varint(number << 3 | 1) + struct.pack("<d", value)
  if isinstance(value, int):
    return varint(number << 3) + varint(value)
  if isinstance(value, str):
    value = value.encode()
  return varint(number << 3 | 2) + varint(len(value)) + bytes(value)


def example(features):
  """A tf.train.Example of lists of bytes and of arrays."""
  entries = b""
  for name, values in features.items():
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
      packed = values.astype("<f4").tobytes()
      feature = field(2, field(1, packed))
    elif isinstance(values, np.ndarray):
      packed = b"".join(varint(int(value)) for value in values.ravel())
      feature = field(3, field(1, packed))
    else:
      feature = field(1, b"".join(field(1, value) for value in values))
    entries += field(1, field(1, name) + field(2, feature))
  return field(1, entries)


def crc32c(data):
  """The checksum, bit by bit."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
  return crc ^ 0xFFFFFFFF


def _table():
  return [crc32c(bytes([n])) ^ crc32c(b"\0") for n in range(256)]


_TABLE = _table()


def masked(data):
  """The checksum as TFRecord files store it; a byte at a time."""
  crc = 0xFFFFFFFF
  for byte in bytes(data):
    crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
  crc ^= 0xFFFFFFFF
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def tfrecord(records):
  """The bytes of a TFRecord file."""
  content = b""
  for record in records:
    length = struct.pack("<Q", len(record))
    content += length + struct.pack("<I", masked(length))
    content += record + struct.pack("<I", masked(record))
  return content


def png(pixels, filters=(0, 1, 2, 3, 4)):
  """A PNG file; the row filters take turns."""
  depth = 8 * pixels.dtype.itemsize
  pixels = pixels.reshape(*pixels.shape[:2], -1)
  height, width, channels = pixels.shape
  stride = channels * pixels.dtype.itemsize
  raw = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
  rows = [raw[i * width * stride :][: width * stride] for i in range(height)]
  content, above = b"", bytes(width * stride)
  for row, kind in zip(rows, itertools.cycle(filters)):
    if kind == 0:
      content, above = content + b"\0" + row, row
      continue
    left = bytes(stride) + row[:-stride]
    corner = bytes(stride) + above[:-stride]
    predicted = [
      [0, a, b, (a + b) // 2, _paeth(a, b, c)][kind]
      for a, b, c in zip(left, above, corner)
    ]
    content += bytes([kind])
    content += bytes((x - p) % 256 for x, p in zip(row, predicted))
    above = row
  color = {1: 0, 3: 2}[channels]
  header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", header)
    + _chunk(b"IDAT", zlib.compress(content))
    + _chunk(b"IEND", b"")
  )


def _paeth(a, b, c):
  costs = [abs(b - c), abs(a - c), abs(a + b - 2 * c)]
  return (a, b, c)[costs.index(min(costs))]


def _chunk(kind, data):
  checked = kind + data
  return (
    struct.pack(">I", len(data))
    + checked
    + struct.pack(">I", zlib.crc32(checked))
  )
