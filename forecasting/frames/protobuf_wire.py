"""Protobuf messages read field by field, without generated code.

A message is a row of fields, each a tag (field number and wire type) and a
value; only the few field numbers a reader asks for need to be known. Nested
messages are slices of the same memory, so skipping one costs nothing however
large it is, and every length is checked against what is left before use.

The second half reads `tf.train.Example`: Example{1: Features{1: map of name to
Feature}}, a Feature being one of {1: bytes, 2: float, 3: int64}, each a list
{1: values}, where numbers may be packed or not.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int64, UInt64

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {FIXED64: 8, FIXED32: 4}
_MAX_VARINT = 10  # bytes of a 64-bit number
_LIST_FIELD = {"bytes": 1, "float": 2, "int64": 3}

# One field: number, wire type, and an integer or the bytes of anything else.
Field = tuple[int, int, int | memoryview]


class WireError(ValueError):
  """Bytes that are no protobuf message, or not the expected one."""


def fields(message: memoryview) -> Iterator[Field]:
  """Walks over the fields of a message.

  Args:
    message: Its bytes.

  Yields:
    (number, wire type, value): an unsigned integer for varints, for all other
    types the bytes, as a slice of `message`.

  Raises:
    WireError: If a field runs past the end or has an unknown wire type; names
      the byte within the message.
  """
  position, end = 0, len(message)
  while position < end:
    start = position
    tag, position = _varint(message, position)
    number, kind = tag >> 3, tag & 7
    if number == 0:
      raise WireError(f"byte {start}: field number 0")
    if kind == VARINT:
      value, position = _varint(message, position)
      yield number, kind, value
      continue
    if kind == LENGTH:
      size, position = _varint(message, position)
    elif kind in _FIXED_SIZE:
      size = _FIXED_SIZE[kind]
    else:
      raise WireError(f"byte {start}: field {number} has wire type {kind}")
    if size > end - position:
      raise WireError(
        f"byte {start}: field {number} has {size} bytes, "
        f"{end - position} are left"
      )
    yield number, kind, message[position : position + size]
    position += size


def nested(kind: int, value: int | memoryview, name: str) -> memoryview:
  """Returns the bytes of a field that must be length-delimited.

  Raises:
    WireError: If it has another wire type; names the field.
  """
  if kind != LENGTH:
    raise WireError(f"{name} has wire type {kind}, expected {LENGTH}")
  return value


def text(kind: int, value: int | memoryview, name: str) -> str:
  """Returns a field that must be a string.

  Raises:
    WireError: If it has another wire type or is not UTF-8; names the field.
  """
  try:
    return bytes(nested(kind, value, name)).decode()
  except UnicodeDecodeError as error:
    raise WireError(f"{name} is not UTF-8: {error}") from error


def integer(kind: int, value: int | memoryview, name: str) -> int:
  """Returns a field that must be an int32, int64 or enum.

  Raises:
    WireError: If it has another wire type; names the field.
  """
  if kind != VARINT:
    raise WireError(f"{name} has wire type {kind}, expected {VARINT}")
  return value - (1 << 64) if value >> 63 else value


def double(kind: int, value: int | memoryview, name: str) -> float:
  """Returns a field that must be a double.

  Raises:
    WireError: If it has another wire type; names the field.
  """
  if kind != FIXED64:
    raise WireError(f"{name} has wire type {kind}, expected {FIXED64}")
  return float(np.frombuffer(value, "<f8")[0])


def offset_within(part: memoryview, whole: memoryview) -> int:
  """Returns where a slice begins in the memory it was cut from."""
  start, origin = (
    np.frombuffer(view, np.uint8).ctypes.data for view in (part, whole)
  )
  return start - origin


def _varint(message: memoryview, position: int) -> tuple[int, int]:
  """Reads an unsigned integer; returns it and the position after it."""
  value = shift = 0
  start = position
  for byte in message[position : position + _MAX_VARINT]:
    value |= (byte & 0x7F) << shift
    position += 1
    if byte < 0x80:
      return value & 0xFFFF_FFFF_FFFF_FFFF, position
    shift += 7
  raise WireError(f"byte {start}: an integer does not end")


class Example:
  """A `tf.train.Example`; values are decoded only when asked for."""

  def __init__(self, record: bytes | memoryview):
    """Lists the features of a record.

    Args:
      record: The serialized message.

    Raises:
      WireError: If it is no Example.
    """
    self._features: dict[str, memoryview] = {}
    for number, kind, value in fields(memoryview(record)):
      if number != 1:
        continue
      for inner, inner_kind, entry in fields(nested(kind, value, "features")):
        if inner == 1:
          name, feature = _map_entry(nested(inner_kind, entry, "a feature"))
          self._features[name] = feature

  def __contains__(self, name: str) -> bool:
    return name in self._features

  def bytes_list(self, name: str) -> list[memoryview]:
    """Returns the values of a feature of bytes.

    Raises:
      WireError: If the feature is missing or of another type.
    """
    return [
      nested(kind, value, name) for kind, value in self._values(name, "bytes")
    ]

  def floats(self, name: str) -> Float32[np.ndarray, "values"]:
    """Returns the values of a feature of float32 numbers.

    Raises:
      WireError: If the feature is missing or of another type.
    """
    chunks = [np.zeros(0, "<f4")]
    for kind, value in self._values(name, "float"):
      if kind not in (LENGTH, FIXED32) or len(value) % 4:
        raise WireError(f"{name} holds no whole float32 numbers")
      chunks.append(np.frombuffer(value, "<f4"))
    return np.concatenate(chunks).astype(np.float32)

  def integers(self, name: str) -> Int64[np.ndarray, "values"]:
    """Returns the values of a feature of int64 numbers.

    Raises:
      WireError: If the feature is missing or of another type.
    """
    chunks = [np.zeros(0, np.uint64)]
    for kind, value in self._values(name, "int64"):
      if kind == VARINT:
        chunks.append(np.asarray([value], np.uint64))
      else:
        chunks.append(unpack_varints(nested(kind, value, name)))
    return np.concatenate(chunks).view(np.int64)

  def _values(self, name: str, kind: str) -> list[tuple[int, int | memoryview]]:
    """The fields of a feature's list."""
    if name not in self._features:
      raise WireError(f"feature {name!r} is missing")
    values = []
    for number, wire, value in fields(self._features[name]):
      if number != _LIST_FIELD[kind]:
        raise WireError(f"feature {name!r} is no list of {kind}")
      values += [
        (inner_wire, inner)
        for inner_number, inner_wire, inner in fields(nested(wire, value, name))
        if inner_number == 1
      ]
    return values


def _map_entry(entry: memoryview) -> tuple[str, memoryview]:
  """Name and value of one feature."""
  name, feature = "", memoryview(b"")
  for number, kind, value in fields(entry):
    if number == 1:
      name = text(kind, value, "a feature's name")
    elif number == 2:
      feature = nested(kind, value, f"feature {name!r}")
  return name, feature


def unpack_varints(packed: memoryview) -> UInt64[np.ndarray, "values"]:
  """Decodes a packed list of integers, all at once.

  Args:
    packed: The bytes of the list.

  Returns:
    The numbers, unsigned.

  Raises:
    WireError: If one is too long or the last one does not end.
  """
  data = np.frombuffer(packed, np.uint8)
  ends = np.flatnonzero(data < 0x80)
  if len(data) and (not len(ends) or ends[-1] != len(data) - 1):
    raise WireError("a packed list of integers does not end")
  starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
  lengths = ends - starts + 1
  values = np.zeros(len(ends), np.uint64)
  for k in range(int(lengths.max(initial=0))):
    if k == _MAX_VARINT:
      raise WireError("a packed list holds an integer of over 64 bits")
    longer = lengths > k
    byte = data[starts[longer] + k].astype(np.uint64) & np.uint64(0x7F)
    values[longer] |= byte << np.uint64(7 * k)
  return values
