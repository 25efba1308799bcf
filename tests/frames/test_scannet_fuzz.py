"""Damaged ScanNet files: refused, skipped and counted, or read as they were.

The quick run takes every tenth mutation; `-m slow` takes all.
"""

import itertools

import made_scannet as made
import mutations
import numpy as np
import pytest
from PIL import Image

from forecasting.frames import scannet, scannet_index

SCAN = "scene0000_00"
FRAMES = 18
ALLOWED = (ValueError,)  # DamagedError is one.

every_or_some = pytest.mark.parametrize(
  "step", [10, pytest.param(1, marks=pytest.mark.slow)]
)


def _judge(folder):
  def open_source():
    # What is remembered is keyed by time of writing, too coarse for this.
    scannet_index.open_scan.cache_clear()
    for memo in (folder / "root" / "scannet-index").glob("*"):
      memo.unlink()
    config = made.config(folder, size=8, eval_windows=1, window_stride=2)
    return scannet.open_scannet(config, "train", folder / "root")

  source = open_source()
  originals = {}
  for i in range(len(source)):
    clip = source[i]
    originals[str(clip["clip_id"])] = clip
  return mutations.Judge(open_source, originals, ALLOWED)


def _sens_mutations(pieces):
  generator = np.random.default_rng(0)
  content = b"".join(pieces)
  both = ("video", "depth")
  # The codec is no part of what a cut-off file may change.
  for what, data in mutations.truncations(pieces):
    yield what, data, both
  counts = [
    1,
    9,
    *range(13, 10 + 7 * FRAMES, 7),
    *range(14, 10 + 7 * FRAMES, 7),
  ]
  counts.append(10 + 7 * FRAMES)
  for what, data in mutations.wrong_counts(pieces, counts):
    yield what, data, both
  header = sum(map(len, pieces[:10]))
  for what, data in mutations.flips(content, 500, generator, 0, header):
    yield what, data, ()
  for what, data in mutations.flips(content, 700, generator, header):
    yield what, data, ()
  # Depth is under a checksum: damage never passes for a measurement.
  for _ in range(300):
    frame = int(generator.integers(FRAMES))
    start = sum(map(len, pieces[: 16 + 7 * frame]))
    end = start + len(pieces[16 + 7 * frame])
    for what, data in mutations.flips(content, 1, generator, start, end):
      yield what, data, both
  for what, data in mutations.shuffles(pieces, 200, generator):
    yield what, data, ()


@every_or_some
def test_damaged_sens_files(tmp_path, step):
  made.write_lists(tmp_path, SCAN)
  pieces = made.pieces(FRAMES, num_imu=2)
  path = made.write_scan(tmp_path, content=b"".join(pieces))
  judge = _judge(tmp_path)
  cases = list(_sens_mutations(pieces))
  assert len(cases) >= 2000
  for what, data, same in itertools.islice(cases, 0, None, step):
    path.write_bytes(data)
    judge.judge(what, same)
  # It is not all refused, nor all let through.
  assert min(judge.outcomes["refused"], judge.outcomes["whole"]) > 0


@every_or_some
def test_damaged_images(tmp_path, step):
  made.write_lists(tmp_path, SCAN)
  scan = tmp_path / SCAN
  (scan / "color").mkdir(parents=True)
  (scan / "depth").mkdir()
  for k in range(FRAMES):
    (scan / f"color/{k}.jpg").write_bytes(made.jpeg(made.color(k)))
    Image.fromarray(made.depth(k)).save(scan / f"depth/{k}.png")
  judge = _judge(tmp_path)
  generator = np.random.default_rng(1)
  for i in range(0, 400, step):
    files = sorted(scan.glob("*/*"))
    path = files[generator.integers(len(files))]
    content = path.read_bytes()
    png = path.suffix == ".png"
    if i % 3 == 0:
      changed = content[: generator.integers(len(content))]
    else:
      ((_, changed),) = mutations.flips(content, 1, generator)
    path.write_bytes(changed)
    # PNG has checksums, JPEG has none.
    judge.judge(f"{path.name}, case {i}", ("depth",) if png else ())
    path.write_bytes(content)
  assert judge.outcomes["skipped"] + judge.outcomes["refused"] > 0
