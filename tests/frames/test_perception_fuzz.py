"""Damaged Perception Test files: refused, skipped and counted, or read.

The quick run takes every tenth mutation; `-m slow` takes all.
"""

import itertools
import json
import re

import made_perception as made
import mutations
import numpy as np
import pytest
from made_perception import boxes, point, video

from forecasting.frames import perception_test

COUNT = 24
# Small clips, so that thousands of them are quick.
SETTINGS = {"size": 8, "num_frames": 4, "stride": 2}

every_or_some = pytest.mark.parametrize(
  "step", [10, pytest.param(1, marks=pytest.mark.slow)]
)


def _labels():
  tracks = [
    point(0, range(COUNT), (0.5, 0.25)),
    point(1, range(4, COUNT), (0.1, 0.9), "rows"),
    point(2, [0, 5], (0.3, 0.3)),
  ]
  objects = [boxes(3, range(0, COUNT, 2), [0.1, 0.2, 0.5, 0.6])]
  return {"v": video(tracks, objects, COUNT), "w": video([tracks[0]])}


@pytest.fixture
def download(tmp_path):
  made.write_clip(tmp_path, "v", COUNT)
  made.write_labels(tmp_path, _labels())
  return tmp_path


def _judge(folder, name="perception_test"):
  def open_source():
    # What is remembered is keyed by time of writing, too coarse for this.
    for memo in (folder / "root" / "perception_test-index").glob("*"):
      memo.unlink()
    config = made.config(folder, name=name, **SETTINGS)
    return perception_test.open_perception_test(config, "eval", folder / "root")

  source = open_source()
  assert len(source) >= 2
  originals = {}
  for i in range(len(source)):
    clip = source[i]
    originals[str(clip["clip_id"])] = clip
  return mutations.Judge(open_source, originals, (ValueError,))


def _label_mutations():
  """Damaged annotations as text, and what is then still to be right."""
  labels, generator = _labels(), np.random.default_rng(0)
  text = json.dumps(labels).encode()
  structure = re.findall(rb"[\[\]{},:]|[^\[\]{},:]+", text)
  yield from mutations.truncations(structure)
  yield from mutations.flips(text, 600, generator)
  yield from mutations.shuffles(structure, 300, generator)
  for what, tree in mutations.odd_values(labels, 1200, generator):
    yield what, json.dumps(tree).encode()


@every_or_some
@pytest.mark.parametrize("name", ["perception_test", "perception_test_boxes"])
def test_damaged_annotations(download, step, name):
  judge = _judge(download, name)
  path = download / "point_tracking_valid.json"
  cases = list(_label_mutations())
  assert len(cases) >= 2000
  # The boxes share the parser; fewer of them.
  step = 4 * step if name.endswith("boxes") else step
  for what, data in itertools.islice(cases, 0, None, step):
    path.write_bytes(data)
    judge.judge(what)
  assert judge.outcomes["refused"] > 0
  assert judge.outcomes["skipped"] + judge.outcomes["whole"] > 0


def _boxes_of(content, start=0, end=None):
  """Borders of an MP4 file's nested boxes."""
  end = len(content) if end is None else end
  while start + 8 <= end:
    size = int.from_bytes(content[start : start + 4], "big")
    kind = content[start + 4 : start + 8]
    if not 8 <= size <= end - start:
      return
    yield start
    yield start + 8
    if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"):
      yield from _boxes_of(content, start + 8, start + size)
    start += size
  yield end


def _video_mutations(content):
  """Damaged files, and whether frames that come are the original ones."""
  generator = np.random.default_rng(1)
  borders = sorted({0, *_boxes_of(content)})
  assert len(borders) > 40
  pieces = [content[a:b] for a, b in itertools.pairwise(borders)]
  yield from mutations.truncations(pieces)
  moov = content.index(b"moov")
  yield from mutations.flips(content, 400, generator, moov)
  yield from mutations.flips(content, 250, generator)
  # Every size and count of the tables.
  for i in range(moov, min(len(content), moov + 2400) - 4, 4):
    value = int(generator.choice([0, 1, 1 << 16, 1 << 31, (1 << 32) - 1]))
    changed = bytearray(content)
    changed[i : i + 4] = value.to_bytes(4, "big")
    yield f"{value} at {i}", bytes(changed)


@every_or_some
def test_damaged_videos(download, step):
  judge = _judge(download)
  path = download / "videos" / "v.mp4"
  cases = list(_video_mutations(path.read_bytes()))
  for what, data in itertools.islice(cases, 0, None, step):
    path.write_bytes(data)
    judge.judge(what)
  assert judge.outcomes["refused"] > 0
  assert judge.outcomes["skipped"] + judge.outcomes["whole"] > 0
