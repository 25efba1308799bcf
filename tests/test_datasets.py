"""What a user is told of a download, whole, partial and damaged."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forecasting import datasets
from forecasting.frames import (
  indexed_video,
  inspection,
  movi_scene,
  scannet_sens,
  structure,
  tfrecord,
  waymo_v2,
)

sys.path.insert(0, str(Path(__file__).parent / "frames"))
import made_movi
import made_perception
import made_records
import made_scannet
import made_waymo

ROOT = Path(__file__).parents[1]


def waymo(folder):
  for k, split in enumerate(("training", "validation")):
    segment = made_waymo.MadeSegment(
      made_waymo.times(40),
      {"x": made_waymo.steady(range(40)), "y": made_waymo.steady([0, 1])},
      name=f"100{k}_100_000_120_000",
    )
    made_waymo.write_v2(folder, segment, split)


def scannet(folder):
  made_scannet.write_scan(folder, num_frames=20)
  made_scannet.write_lists(folder, "scene0000_00")


def movi(folder):
  shape = (16, 12, 16)
  scene = made_movi.MadeScene(0, *shape)
  splits = {"train": [made_records.example(scene.features())]}
  made_movi.write_folder(folder, splits, shape, file_format="array_record")


def perception_test(folder):
  made_perception.write_clip(folder, "v", 62)
  points = [made_perception.point(0, range(62), [0.5, 0.25])]
  labels = {"v": made_perception.video(points, count=62)}
  made_perception.write_labels(folder, labels)


WRITERS = {
  "waymo": waymo,
  "scannet": scannet,
  "movi": movi,
  "perception_test": perception_test,
}
SAID = {
  "waymo": [
    "train: 1 of 798 segments, 2 clips with boxes",
    "boxes: 1.0 a clip, seen in 100% of it",
    "usable, and not complete: 797 segments of train are missing; "
    "201 segments of eval are missing",
  ],
  "scannet": [
    "train: 1 of 1 scans, 1 clips tried with depth",
    "depth: 100% of the pixels measured",
    "complete and usable",
  ],
  "movi": [
    "train: 1 of 1 files, 1 clips with points",
    "no split 'validation'",
    "(not needed by the paper's protocol)",
    "complete and usable",
  ],
  "perception_test": [
    "holds none of point_tracking_train.json",
    "eval: 1 of 1 videos, 1 clips with points",
    "tracks: 1.0 a clip, seen in 100% of it",
    "complete and usable",
  ],
}


@pytest.mark.parametrize("dataset", WRITERS)
def test_a_download_is_described_and_drawn(dataset, tmp_path, capsys):
  folder = tmp_path / "download"
  folder.mkdir()
  WRITERS[dataset](folder)
  assert datasets.check(dataset, folder, tmp_path / "out")
  said = capsys.readouterr().out
  for words in SAID[dataset]:
    assert words in said
  sheet = np.asarray(Image.open(tmp_path / "out" / datasets.SHEET))
  clips = {"waymo": 3, "scannet": 2}.get(dataset, 1)
  lines = 2 if dataset == "scannet" else 1
  tile = (sheet.shape[0] / clips - 20) / lines
  assert 100 < tile < 200 and sheet.shape[1] >= 5 * tile
  # Frames are gray in Waymo's made files, marks are not.
  if dataset == "waymo":
    assert (np.ptp(sheet.astype(int), axis=-1) > 80).sum() > 200


def test_what_is_missing_or_damaged_is_said(tmp_path, capsys):
  folder = tmp_path / "download"
  scannet(folder)
  (path,) = folder.rglob("*.sens")
  made_scannet.write_lists(folder, "scene0000_00", "scene0001_00")
  assert datasets.check("scannet", folder, tmp_path / "out")
  said = capsys.readouterr().out
  assert "1 of 2 scans" in said and "skipped, scan: missing: 1" in said
  assert "not complete: 1 scans of train are missing" in said

  path.write_bytes(path.read_bytes()[:400])
  assert not datasets.check("scannet", folder, tmp_path / "out")
  said = capsys.readouterr().out
  assert "gives no train clip" in said and "not usable" in said


def test_a_clip_that_does_not_decode_makes_it_unusable(tmp_path):
  segment = made_waymo.MadeSegment(
    made_waymo.times(40), {"x": made_waymo.steady(range(40))}
  )
  segment.images[4] = b"\xff\xd8 no picture"
  made_waymo.write_v2(tmp_path / "d", segment)
  data = datasets.settings("waymo", tmp_path / "d")
  found = inspection.inspect(data, "train", tmp_path / "root", 5)
  assert found.source is not None and not found.is_usable
  assert "does not decode" in found.problem


def test_every_clip_is_decoded_at_most_once_and_spread(tmp_path):
  waymo(tmp_path / "d")
  data = datasets.settings("waymo", tmp_path / "d")
  data.window_stride = 1
  found = inspection.inspect(data, "train", tmp_path / "root", 3)
  starts = [int(clip["start_frame"]) for clip in found.clips]
  assert len(found.source) == 5 and starts == [0, 2, 6]


@pytest.mark.slow
def test_the_binary_exits_with_one_if_nothing_can_be_used(tmp_path):
  for path, words in ((tmp_path, "not usable"), ("/no/such", "does not exist")):
    done = subprocess.run(
      [
        *(sys.executable, "-m", "forecasting.datasets", "--dataset=waymo"),
        *(f"--check={path}", f"--output={tmp_path / 'out'}"),
      ],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert words in done.stdout
    assert "Traceback" not in done.stderr


def many_movi(folder, count):
  features = made_movi.MadeScene(0, 16, 12, 16).features()
  records = []
  for k in range(count):
    features["metadata/video_name"] = [f"video {k:03d}".encode()]
    records.append(made_records.example(features))
  made_movi.write_folder(folder, {"train": records}, (16, 12, 16), shards=3)


def many_videos(folder, count):
  path = made_perception.write_clip(folder, "v0", 62)
  names = [f"v{k}" for k in range(count)]
  for name in names[1:]:
    (path.parent / f"{name}.mp4").write_bytes(path.read_bytes())
  points = [made_perception.point(0, range(62), [0.5, 0.25])]
  labels = {name: made_perception.video(points, count=62) for name in names}
  made_perception.write_labels(folder, labels)


def many_segments(write):
  def make(folder, count):
    for k in range(count):
      boxes = {"x": made_waymo.steady(range(40))}
      times, name = made_waymo.times(40), f"{1000 + k}_100_000_120_000"
      write(folder, made_waymo.MadeSegment(times, boxes, name=name))

  return make


def many_scans(folder, count):
  names = [f"scene{k:04d}_00" for k in range(count)]
  content = b"".join(made_scannet.pieces(20))
  for name in names:
    made_scannet.write_scan(folder, name, content)
  made_scannet.write_lists(folder, *names)


# What decodes or reads a recording from end to end, and the split looked at.
MANY = {
  "movi": (many_movi, movi_scene.Scene, "__init__", "train"),
  "perception_test": (many_videos, indexed_video, "_decode", "eval"),
  "scannet": (many_scans, scannet_sens.SensFile, "_read", "train"),
  "waymo v1": (
    *(many_segments(made_waymo.write_v1), tfrecord, "read_record", "train"),
  ),
  "waymo v2": (
    *(many_segments(made_waymo.write_v2), waymo_v2, "index_segment", "train"),
  ),
}


def look(name, folder, full=False):
  data = datasets.settings(name.split()[0], folder, full)
  data.size, data.workers = 16, 1
  split = MANY[name][-1]
  return inspection.inspect(data, split, folder / "root", 3)


@pytest.mark.parametrize("name", MANY)
def test_how_much_is_decoded_does_not_grow_with_the_download(
  name, tmp_path, monkeypatch
):
  write, owner, attribute, _ = MANY[name]
  monkeypatch.setattr(datasets, "SAMPLE", {})
  monkeypatch.setattr(datasets, "SAMPLE_DECODED", 2)
  calls = []
  original = getattr(owner, attribute)

  def counted(*args, **kwargs):
    calls.append(args)
    return original(*args, **kwargs)

  monkeypatch.setattr(owner, attribute, counted)
  counts = {}
  for count in (2, 6):
    calls.clear()
    write(tmp_path / str(count), count)
    found = look(name, tmp_path / str(count))
    assert found.is_usable and not found.files.damaged
    assert found.files.num_recordings == count
    assert found.sample == (None if count == 2 else 2)
    counts[count] = len(calls)
  assert 0 < counts[2] == counts[6]
  said = "\n".join(datasets.describe(found))
  assert "a sample of 2 of 6 recordings" in said and "in the sample" in said
  assert f"read of every file: {found.files.looked_at}" in said
  if name != "scannet":  # Full, it looks at all.
    calls.clear()
    found = look(name, tmp_path / "6", full=True)
    assert found.sample is None and len(calls) > 1.5 * counts[6]
    assert "from end to end: all" in "\n".join(datasets.describe(found))


@pytest.mark.parametrize(
  ("name", "pattern", "is_fatal"),
  [
    ("movi", "movi_e-train*-00002-of-00003", True),
    ("perception_test", "videos/v5.mp4", False),
    ("scannet", "scans/scene0005_00/*.sens", False),
    ("waymo v1", "training/*1005*.tfrecord", True),
    ("waymo v2", "training/camera_box/1005*.parquet", True),
  ],
)
def test_a_file_that_was_cut_off_is_found_outside_of_the_sample(
  name, pattern, is_fatal, tmp_path, monkeypatch
):
  monkeypatch.setattr(datasets, "SAMPLE", {})
  monkeypatch.setattr(datasets, "SAMPLE_DECODED", 2)
  MANY[name][0](tmp_path, 6)
  (path,) = tmp_path.glob(pattern)
  # Not where a record ends, which nobody could tell from a whole file.
  path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5 + 7])
  found = look(name, tmp_path)
  assert found.source is not None and found.is_usable != is_fatal
  (problem,) = found.files.damaged
  assert path.name in problem
  assert "1 files of" in " ".join(datasets.defects([found]))
  assert f"damaged: {problem}" in "\n".join(datasets.describe(found))


def test_an_mp4_file_is_whole_only_with_all_its_boxes(tmp_path):
  def box(kind, content=b"", long=False):
    size = len(content) + 8
    if long:
      head = (1).to_bytes(4, "big") + kind + (size + 8).to_bytes(8, "big")
      return head + content
    return size.to_bytes(4, "big") + kind + content

  boxes = [box(b"ftyp", b"isom"), box(b"moov", b"x" * 9), box(b"free")]
  whole = b"".join([*boxes, box(b"mdat", b"y" * 20, long=True)])
  path = tmp_path / "a.mp4"
  path.write_bytes(whole)
  structure.check_mp4(path)
  path.write_bytes(b"".join(boxes) + bytes(4) + b"mdat" + b"y" * 20)
  structure.check_mp4(path)  # A size of 0 is the rest of the file.
  for end in range(len(whole)):
    path.write_bytes(whole[:end])
    with pytest.raises(ValueError, match=r"a\.mp4: .*download it again"):
      structure.check_mp4(path)
  for damaged in (whole.replace(b"moov", b"free"), whole[:20] + bytes(40)):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="download it again"):
      structure.check_mp4(path)
