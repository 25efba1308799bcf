"""Thousands of damaged files of MOVi and Waymo Open.

Whatever is cut, flipped or miscounted: a clean error that names a file, or
counted skips and clips that obey their schema; never a crash, a hang or memory
that the file does not justify.
"""

import resource
import shutil
import struct
import time

import made_movi
import made_records
import made_waymo
import numpy as np
import pytest
from pyarrow import parquet

from forecasting.frames import movi, tfrecord, waymo
from forecasting.frames.clip import validate_clip

SHAPE = (6, 10, 12)
MAX_SECONDS = 20  # for one damaged file, on a busy machine
MAX_GROWTH = 400 * 2**10  # KiB, of the whole process


def movi_folder(path, file_format):
  records = [
    made_records.example(made_movi.MadeScene(k, *SHAPE).features(name))
    for k, name in enumerate("ab")
  ]
  made_movi.write_folder(path, {"train": records}, SHAPE, file_format)
  (file,) = path.glob("*train*")
  return file, records


def waymo_segment():
  frames = range(24)
  return made_waymo.MadeSegment(
    times=made_waymo.times(24),
    objects={"x": made_waymo.steady(frames), "y": made_waymo.steady(frames)},
    images={i: made_waymo.jpeg(i, 8, 12) for i in frames},
  )


class Reader:
  """A download of one format, the file to damage, and how to read it."""

  def __init__(self, kind, folder):
    self.root, self.path, records = folder / "root", folder / "d", None
    if kind.startswith("movi"):
      self.open = movi.open_movi
      self.settings = made_movi.settings(self.path, size=8, num_points=4)
      file_format = kind.removeprefix("movi_")
      self.file, records = movi_folder(self.path, file_format)
    else:
      self.open = waymo.open_waymo
      self.settings = made_waymo.settings(self.path, size=8, num_frames=8)
      if kind == "waymo_v1":
        self.file = made_waymo.write_v1(self.path, waymo_segment())
        spans = tfrecord.read_spans(self.file)
        records = [bytes(tfrecord.read_record(self.file, s)) for s in spans]
      else:
        images, boxes = made_waymo.write_v2(self.path, waymo_segment())
        self.file = images if kind == "waymo_v2_images" else boxes
    self.content = self.file.read_bytes()
    # Records that can be damaged under checksums that are right.
    self.records = None if kind == "movi_array_record" else records
    self.boundaries = self._boundaries(kind)

  def _boundaries(self, kind):
    """Where something begins or ends."""
    size = len(self.content)
    found = {0, 1, size - 1, size - 4, size - 8}
    if self.records:
      for span in tfrecord.read_spans(self.file):
        end = span.offset + span.length
        found |= {span.offset - 12, span.offset - 4, span.offset, end, end + 4}
    elif kind == "movi_array_record":
      found |= {*range(0, size, 2**16), *range(24, size, 2**16)}
    else:
      footer = struct.unpack("<I", self.content[-8:-4])[0]
      found |= {size - 8 - footer, size - 9}
      metadata = parquet.read_metadata(self.file)
      for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
          chunk = metadata.row_group(group).column(column)
          found |= {
            chunk.data_page_offset,
            chunk.file_offset,
            chunk.data_page_offset + chunk.total_compressed_size,
          }
    return sorted(point for point in found if 0 <= point < size)

  def read(self):
    """Returns every clip, the index made anew."""
    shutil.rmtree(self.root, ignore_errors=True)
    source = self.open(self.settings, "train", self.root)
    assert all(count > 0 for count in source.skipped.values())
    return [validate_clip(source[i]) for i in range(len(source))]


def damage(reader, rng, number):
  """Returns damaged bytes of the file."""
  if number < len(reader.boundaries):
    return reader.content[: reader.boundaries[number]]
  kind = rng.integers(5)
  if kind == 0:
    return reader.content[: rng.integers(len(reader.content))]
  if reader.records and kind <= 2:
    records = list(reader.records)
    victim = rng.integers(len(records))
    records[victim] = flip(records[victim], rng)
    return b"".join(map(framed, records))
  return flip(reader.content, rng, tail=kind == 3)


def framed(record):
  length = struct.pack("<Q", len(record))
  sums = [struct.pack("<I", tfrecord.masked_crc(x)) for x in (length, record)]
  return length + sums[0] + record + sums[1]


def flip(content, rng, tail=False):
  """Flips bits, or overwrites numbers, anywhere or in the last 2 KiB."""
  changed = bytearray(content)
  first = max(0, len(content) - 2048) if tail else 0
  for _ in range(rng.choice([1, 1, 2, 8])):
    position = int(rng.integers(first, len(content)))
    if rng.integers(2):
      changed[position] ^= 1 << int(rng.integers(8))
      continue
    size = int(rng.choice([1, 2, 4, 8]))
    value = [b"\xff" * size, bytes(size), rng.bytes(size), b"\x7f" * size]
    changed[position : position + size] = value[rng.integers(4)]
  return bytes(changed)


def survive(kind, folder, count):
  """Reads damaged files; returns how many failed and how many did not."""
  reader = Reader(kind, folder)
  assert reader.read()
  rng = np.random.default_rng(0)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  errors = clean = 0
  for number in range(count):
    reader.file.write_bytes(damage(reader, rng, number))
    start = time.monotonic()
    try:
      reader.read()
      clean += 1
    except (ValueError, OSError) as error:
      errors += 1
      assert str(folder) in str(error), f"{number}: {error}"
    assert time.monotonic() - start < MAX_SECONDS, number
  grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  assert grown < MAX_GROWTH
  return errors, clean


KINDS = (
  "movi_tfrecord",
  "movi_array_record",
  "waymo_v1",
  "waymo_v2_images",
  "waymo_v2_boxes",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_some_damage(kind, tmp_path):
  errors, clean = survive(kind, tmp_path, 25)
  assert errors > 5 and errors + clean == 25


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_much_damage(kind, tmp_path):
  errors, clean = survive(kind, tmp_path, 2000)
  assert errors > 400 and clean > 20
