"""What a user is told of a download, whole, partial and damaged."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forecasting import datasets
from forecasting.frames import inspection

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
