"""TFRecord files, read at any record without TensorFlow.

  length  uint64      masked CRC-32C of it  uint32
  data    `length` bytes      masked CRC-32C of them  uint32      (1)

all little-endian, one record after the other. CRC-32C is linear over bits: of
two neighboring blocks a and b,

  crc(a b) = shift(crc(a), bytes in b) xor crc(b),                 (2)

so that NumPy reduces whole buffers pairwise, and no compiled package is needed.
"""

import functools
import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt32

_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
_MASK_DELTA = 0xA282EAD8
_HEADER = 12
_FOOTER = 4
_FEW_BYTES = 64  # as many as NumPy's calls cost
_BLOCK_BITS = 21  # of the bytes reduced at once; measured to be fastest


class TFRecordError(ValueError):
  """A file that is no TFRecord, or a damaged one; names file and offset."""


class Span(NamedTuple):
  """Where the data of a record lies in its file."""

  offset: int
  length: int


def read_spans(path: Path) -> list[Span]:
  """Finds all records of a file; reads only their headers.

  Args:
    path: The file, not compressed.

  Returns:
    Where the records are, in order.

  Raises:
    TFRecordError: If a header is damaged or the file cut off.
    OSError: If the file cannot be read.
  """
  spans = []
  size = path.stat().st_size
  position = 0
  with path.open("rb") as file:
    while position < size:
      file.seek(position)
      header = file.read(_HEADER)
      if len(header) < _HEADER:
        raise TFRecordError(
          f"{path}: cut off at byte {position}, within the header of record "
          f"{len(spans)}"
        )
      if masked_crc(header[:8]) != int.from_bytes(header[8:], "little"):
        raise TFRecordError(
          f"{path}: no record header at byte {position} (record {len(spans)}): "
          "its checksum differs. The file is damaged, compressed, or no "
          "TFRecord."
        )
      length = int.from_bytes(header[:8], "little")
      end = position + _HEADER + length + _FOOTER
      if end > size:
        raise TFRecordError(
          f"{path}: record {len(spans)} at byte {position} has {length} bytes "
          f"but the file ends at byte {size}: download it again"
        )
      spans.append(Span(position + _HEADER, length))
      position = end
  return spans


def map_record(path: Path, span: Span) -> memoryview:
  """Maps a record, so that only what is looked at is read; not verified.

  Args:
    path: The file.
    span: From `read_spans`.

  Returns:
    The data.

  Raises:
    TFRecordError: If the file got shorter.
    OSError: If it cannot be read.
  """
  with path.open("rb") as file:
    if path.stat().st_size < span.offset + span.length:
      raise TFRecordError(
        f"{path} was cut off since it was indexed: byte {span.offset}"
      )
    mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
  return mapped[span.offset : span.offset + span.length]


def read_record(path: Path, span: Span) -> memoryview:
  """Reads one record and verifies its checksum.

  Args:
    path: The file.
    span: From `read_spans`.

  Returns:
    The data.

  Raises:
    TFRecordError: If the checksum differs, or the file got shorter.
    OSError: If the file cannot be read.
  """
  with path.open("rb") as file:
    file.seek(span.offset)
    data = file.read(span.length + _FOOTER)
  if len(data) < span.length + _FOOTER:
    raise TFRecordError(
      f"{path} was cut off since it was indexed: byte {span.offset}"
    )
  record = memoryview(data)[: span.length]
  if masked_crc(record) != int.from_bytes(data[span.length :], "little"):
    raise TFRecordError(
      f"{path}: the record at byte {span.offset} ({span.length} bytes) is "
      "damaged: its checksum differs. Download the file again."
    )
  return record


def masked_crc(data: bytes | memoryview) -> int:
  """Returns the checksum of (1)."""
  crc = crc32c(data)
  return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFF_FFFF


def crc32c(data: bytes | memoryview) -> int:
  """Returns the CRC-32C of some bytes.

  Args:
    data: The bytes.

  Returns:
    The checksum; 0xE3069283 for b'123456789'.

  Source: RFC 3720, appendix B.4.
  """
  state = 0xFFFF_FFFF
  if len(data) <= _FEW_BYTES:
    table = _byte_list()
    for byte in bytes(data):
      state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFF_FFFF
  array = np.frombuffer(data, np.uint8)
  for start in range(0, len(array), 1 << _BLOCK_BITS):
    block = array[start : start + (1 << _BLOCK_BITS)]
    state = _advance(state, len(block)) ^ _reduce(block)
  return state ^ 0xFFFF_FFFF


def _reduce(block: np.ndarray) -> int:
  """CRC of a block from state 0.

  By (2) the first half can be shifted onto the second, word by word, since
  both are then followed by as many bytes; the sum is half as long.
  """
  bits = max(1, (len(block) - 1).bit_length())
  # Zeros before the first byte leave a state of 0 unchanged.
  padded = np.zeros(1 << bits, np.uint8)
  padded[len(padded) - len(block) :] = block
  # Taking with 'clip' is the fast way to index; no index is out of range.
  crcs = _pair_table().take(padded.view("<u2"), mode="clip")
  for level in reversed(range(1, bits)):
    low, high = _shift_tables(level)
    first, second = np.split(crcs, 2)
    halves = first.view("<u2")
    crcs = low.take(halves[::2], mode="clip")
    crcs ^= high.take(halves[1::2], mode="clip")
    crcs ^= second
  return int(crcs[0])


def _advance(state: int, count: int) -> int:
  """State after `count` zero bytes."""
  for level in range(count.bit_length()):
    if count >> level & 1:
      low, high = _shift_tables(level)
      state = int(low[state & 0xFFFF] ^ high[state >> 16])
  return state


@functools.cache
def _byte_table() -> UInt32[np.ndarray, "256"]:
  """State 0 after one byte."""
  table = np.arange(256, dtype=np.uint32)
  for _ in range(8):
    table = (table >> 1) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), 0)
  return table.astype(np.uint32)


@functools.cache
def _byte_list() -> list[int]:
  """The same as Python's numbers, which are faster one at a time."""
  return _byte_table().tolist()


@functools.cache
def _pair_table() -> UInt32[np.ndarray, "65536"]:
  """State 0 after two bytes, indexed by them as a little-endian number."""
  table = _byte_table()
  number = np.arange(1 << 16)
  first = table[number & 0xFF]
  return table[(first ^ (number >> 8)) & 0xFF] ^ (first >> 8)


@functools.cache
def _shift_tables(level: int) -> tuple[np.ndarray, np.ndarray]:
  """What 2**level zero bytes make of a state's low and high 16 bits."""
  bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
  if level == 0:
    images = _byte_table()[bits & 0xFF] ^ (bits >> 8)
  else:
    low, high = _shift_tables(level - 1)
    images = bits
    for _ in range(2):
      images = low[images & 0xFFFF] ^ high[images >> 16]
  return _span_table(images[:16]), _span_table(images[16:])


def _span_table(images: np.ndarray) -> np.ndarray:
  """All sums (xor) of the images, indexed by the bits of those included."""
  table = np.zeros(1, np.uint32)
  for image in images:
    table = np.concatenate([table, table ^ image])
  return table
