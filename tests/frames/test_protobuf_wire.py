"""Messages and TFRecord files, against other writers and damaged."""

import struct

import made_records
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.frames import tfrecord
from forecasting.frames.protobuf_wire import (
  Example,
  WireError,
  fields,
  integer,
  offset_within,
  unpack_varints,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


def _google_example():
  """The message classes, made by the protobuf package."""
  descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
  from google.protobuf import descriptor_pool, message_factory

  file = descriptor_pb2.FileDescriptorProto(
    name="example.proto", package="t", syntax="proto3"
  )
  kinds = {"BytesList": 12, "FloatList": 2, "Int64List": 3}
  for name, kind in kinds.items():
    file.message_type.add(name=name).field.add(
      name="value", number=1, type=kind, label=3
    )
  feature = file.message_type.add(name="Feature")
  for number, name in enumerate(kinds, 1):
    feature.field.add(
      name=name, number=number, type=11, label=1, type_name=f".t.{name}"
    )
  entry = file.message_type.add(name="Entry")
  entry.field.add(name="key", number=1, type=9, label=1)
  entry.field.add(
    name="value", number=2, type=11, label=1, type_name=".t.Feature"
  )
  features = file.message_type.add(name="Features")
  features.field.add(
    name="feature", number=1, type=11, label=3, type_name=".t.Entry"
  )
  outer = file.message_type.add(name="Example")
  outer.field.add(
    name="features", number=1, type=11, label=1, type_name=".t.Features"
  )
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(
    pool.FindMessageTypeByName("t.Example")
  )


@given(
  st.lists(st.binary(max_size=300), max_size=4),
  st.lists(st.floats(width=32, allow_nan=False), max_size=5),
  st.lists(INT64, max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_reads_what_protobuf_writes(blobs, numbers, integers):
  message = _google_example()()
  for name, kind, values in (
    ("blobs", "BytesList", blobs),
    ("numbers", "FloatList", numbers),
    ("integers", "Int64List", integers),
  ):
    entry = message.features.feature.add(key=name)
    getattr(entry.value, kind).value.extend(values)
    getattr(entry.value, kind).SetInParent()
  found = Example(message.SerializeToString())
  assert [bytes(value) for value in found.bytes_list("blobs")] == blobs
  assert found.floats("numbers").tolist() == numbers
  assert found.integers("integers").tolist() == integers
  assert "other" not in found


def test_reads_numbers_that_are_not_packed():
  floats = b"".join(b"\x0d" + struct.pack("<f", value) for value in (1.5, -2.0))
  integers = made_records.field(1, 7) + made_records.field(1, -1)
  entries = b""
  for name, number, body in (("a", 2, floats), ("b", 3, integers)):
    feature = made_records.field(number, body)
    entry = made_records.field(1, name) + made_records.field(2, feature)
    entries += made_records.field(1, entry)
  found = Example(made_records.field(1, entries))
  assert found.floats("a").tolist() == [1.5, -2.0]
  assert found.integers("b").tolist() == [7, -1]


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_unpacks_integers(values):
  packed = b"".join(map(made_records.varint, values))
  assert unpack_varints(memoryview(packed)).tolist() == values


@pytest.mark.parametrize(
  "message, complaint",
  [
    (b"\x0a\x05abc", "has 5 bytes, 3 are left"),
    (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "are left"),
    (b"\x08" + b"\xff" * 11, "does not end"),
    (b"\x08\x80", "does not end"),
    (b"\x0b", "wire type 3"),
    (b"\x00\x00", "field number 0"),
    (b"\x09abc", "has 8 bytes, 3 are left"),
  ],
)
def test_refuses(message, complaint):
  with pytest.raises(WireError, match=complaint):
    list(fields(memoryview(message)))


def test_names_features():
  record = made_records.example({"a": [b"x"], "b": np.zeros(2, np.float32)})
  with pytest.raises(WireError, match="'c' is missing"):
    Example(record).floats("c")
  with pytest.raises(WireError, match="'a' is no list of float"):
    Example(record).floats("a")
  with pytest.raises(WireError, match="'b' is no list of int64"):
    Example(record).integers("b")


def test_wrong_wire_types_are_named():
  ((_, kind, value),) = fields(memoryview(made_records.field(3, "x")))
  with pytest.raises(WireError, match=r"Frame\.time has wire type 2"):
    integer(kind, value, "Frame.time")


def test_slices_know_where_they_are():
  message = memoryview(made_records.field(1, 5) + made_records.field(2, "abc"))
  *_, (_, _, value) = fields(message)
  start = offset_within(value, message)
  assert bytes(message[start : start + 3]) == b"abc"


@pytest.mark.parametrize("few", [0, 64])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 64, 65, 255, 4097, 70_001])
def test_checksum_agrees_with_one_byte_at_a_time(size, few, monkeypatch):
  monkeypatch.setattr(tfrecord, "_FEW_BYTES", few)
  data = np.random.default_rng(size).bytes(size)
  assert tfrecord.masked_crc(data) == made_records.masked(data)


def test_checksum_of_the_standard():
  assert tfrecord.crc32c(b"123456789") == 0xE3069283
  assert tfrecord.crc32c(bytes(32)) == 0x8A9136AA
  assert tfrecord.crc32c(bytes([0xFF] * 32)) == 0x62A8AB43
  assert made_records.crc32c(b"123456789") == 0xE3069283


def test_checksum_of_several_blocks(monkeypatch):
  data = np.random.default_rng(0).bytes(1000)
  whole = tfrecord.crc32c(data)
  monkeypatch.setattr(tfrecord, "_BLOCK_BITS", 6)
  assert tfrecord.crc32c(data) == whole


RECORDS = [b"first", b"", b"the third record"]


@pytest.fixture
def path(tmp_path):
  path = tmp_path / "some.tfrecord"
  path.write_bytes(made_records.tfrecord(RECORDS))
  return path


def test_reads_records_in_any_order(path):
  spans = tfrecord.read_spans(path)
  assert len(spans) == 3
  for k in (2, 0, 1):
    assert bytes(tfrecord.read_record(path, spans[k])) == RECORDS[k]
    assert bytes(tfrecord.map_record(path, spans[k])) == RECORDS[k]


def test_every_cut_is_noticed(path):
  content = path.read_bytes()
  ends = np.cumsum([0] + [16 + len(record) for record in RECORDS])
  for size in range(len(content)):
    path.write_bytes(content[:size])
    if size in ends:  # nothing tells that more is missing
      assert len(tfrecord.read_spans(path)) == list(ends).index(size)
      continue
    with pytest.raises(tfrecord.TFRecordError, match=r"some\.tfrecord.*byte"):
      tfrecord.read_spans(path)


def test_every_flipped_bit_is_noticed(path):
  content = path.read_bytes()
  for bit in range(8 * len(content)):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    with pytest.raises(tfrecord.TFRecordError, match=r"some\.tfrecord.*byte"):
      for span in tfrecord.read_spans(path):
        tfrecord.read_record(path, span)


def test_a_length_beyond_the_file_allocates_nothing(path):
  length = struct.pack("<Q", 2**62)
  header = length + struct.pack("<I", made_records.masked(length))
  path.write_bytes(header + bytes(100))
  with pytest.raises(tfrecord.TFRecordError, match="but the file ends"):
    tfrecord.read_spans(path)


def test_a_file_that_got_shorter_is_noticed(path):
  spans = tfrecord.read_spans(path)
  path.write_bytes(path.read_bytes()[:-8])
  for read in (tfrecord.read_record, tfrecord.map_record):
    with pytest.raises(tfrecord.TFRecordError, match=r"cut off"):
      read(path, spans[-1])
