"""Damaged copies of files, and what a reader may do with them."""

import copy
import itertools
import resource
import struct
import time

import numpy as np

from forecasting.frames.clip import validate_clip

MAX_SECONDS = 20  # On a busy machine; a hang takes longer.
MAX_MEGABYTES = 400
COUNTS = (0, 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62, (1 << 64) - 1)
ODD_VALUES = (
  None, True, -1, 0, 1, 2, 1e300, -1e300, 1 << 70, float("nan"), float("inf"),
  "", "x", "1", [], {}, [[]], [[], []], [None], [1, "x"], [[1, 2], [3]],
  [0.5] * 3, [1 << 40] * 2, {"a": 1}, [[0.5, 0.5]] * 3,
)  # fmt: skip


def truncations(pieces):
  """Cuts a file at every border of its pieces, and a byte either side."""
  content = b"".join(pieces)
  for border in itertools.accumulate(map(len, pieces), initial=0):
    for end in (border - 1, border, border + 1):
      if 0 <= end < len(content):
        yield f"cut at {end}", content[:end]


def wrong_counts(pieces, places):
  """Puts odd numbers into 8-byte counts; `places` are pieces' positions."""
  for place in places:
    (count,) = struct.unpack("<Q", pieces[place])
    for value in (*COUNTS, count - 1, count + 1):
      if value != count and 0 <= value < 1 << 64:
        other = list(pieces)
        other[place] = struct.pack("<Q", value)
        yield f"piece {place} is {value}", b"".join(other)


def flips(content, number, generator, start=0, end=None):
  """Changes one to eight bytes, anywhere or between two offsets."""
  end = len(content) if end is None else end
  for _ in range(number):
    changed = bytearray(content)
    where = generator.integers(start, end, generator.integers(1, 9))
    for place in where:
      changed[place] ^= int(generator.integers(1, 256))
    yield f"bytes {sorted(where.tolist())} changed", bytes(changed)


def shuffles(pieces, number, generator):
  """Leaves a piece out, repeats one, or exchanges two."""
  for _ in range(number):
    i, j = generator.integers(0, len(pieces), 2)
    other = list(pieces)
    kind = generator.integers(3)
    if kind == 0:
      del other[i]
    elif kind == 1:
      other.insert(i, other[j])
    else:
      other[i], other[j] = other[j], other[i]
    yield f"pieces {i}, {j}, change {kind}", b"".join(other)


def odd_values(tree, number, generator):
  """Replaces or removes something anywhere in a tree of JSON."""
  paths = list(_paths(tree))
  for _ in range(number):
    other = copy.deepcopy(tree)
    *parents, last = paths[generator.integers(len(paths))]
    node = other
    for key in parents:
      node = node[key]
    value = ODD_VALUES[generator.integers(len(ODD_VALUES))]
    if generator.integers(6) == 0:
      del node[last]
    else:
      node[last] = value
    yield f"{[*parents, last]} is {value!r}", other


def _paths(tree, path=()):
  if path:
    yield path
  if isinstance(tree, dict | list):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
      yield from _paths(value, (*path, key))


class Judge:
  """Runs a reader on one damaged copy after another.

  Attributes:
    outcomes: How often which end was met.
  """

  def __init__(self, open_source, originals, errors):
    """`originals`: clips by id; `errors`: what may be raised."""
    self._open, self._originals, self._errors = open_source, originals, errors
    self.outcomes = {"refused": 0, "skipped": 0, "whole": 0}
    self._start = self._peak()

  @staticmethod
  def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

  def judge(self, what, same=()):
    """Reads all clips; the arrays named must be as in the undamaged file."""
    start = time.monotonic()
    try:
      source = self._open()
      clips = [validate_clip(source[i]) for i in range(len(source))]
    except self._errors as error:
      assert len(str(error)) > 10, what
      self.outcomes["refused"] += 1
    else:
      for clip in clips:
        original = self._originals.get(str(clip["clip_id"]))
        for key in same:
          assert original is not None, (what, clip["clip_id"])
          np.testing.assert_array_equal(clip[key], original[key], what)
      self.outcomes["skipped" if source.skipped else "whole"] += 1
    assert time.monotonic() - start < MAX_SECONDS, what
    grown = self._peak() - self._start
    assert grown < MAX_MEGABYTES, f"{what}: {grown:.0f} MB"
