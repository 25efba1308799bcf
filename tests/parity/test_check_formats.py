"""The check of dataset formats notices what it is there to notice."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "frames"))

import check_formats
import made_perception
import made_scannet

SCAN = "scene0000_00"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
  """A folder of samples with right values."""
  folder = tmp_path_factory.mktemp("formats")
  scannet = folder / "scannet"
  scannet.mkdir()
  made_scannet.write_lists(scannet, SCAN)
  made_scannet.write_scan(scannet, num_frames=17)
  (scannet / "malformed").mkdir()
  whole = b"".join(made_scannet.pieces(17))
  (scannet / "malformed" / "cut.sens").write_bytes(whole[:-99])
  short = b"".join(made_scannet.pieces(3))
  (scannet / "malformed" / "short.sens").write_bytes(short)
  depth = [made_scannet.depth(k) for k in range(17)]
  values = {
    "num_frames": 17,
    "depth_sum": [int(d.sum()) for d in depth],
    "color_sha256": [
      hashlib.sha256(made_scannet.jpeg(made_scannet.color(k))).hexdigest()
      for k in range(17)
    ],
    "imu_frames": None,
  }
  (scannet / "expected.json").write_text(json.dumps({SCAN: values}))
  videos = folder / "perception_test"
  videos.mkdir()
  made_perception.write_clip(videos, "v", 61)
  track = made_perception.point(0, range(61), (0.25, 0.5))
  labels = made_perception.video([track], count=61)
  made_perception.write_labels(videos, {"v": labels})
  values = {
    "num_frames": 61,
    "clip_starts_stride4": [0],
    "visible": [[[True] * 16]],
    "xy_first_clip": [[[0.25, 0.5]] * 16],
    "queries_kept": [[0]],
  }
  (videos / "expected.json").write_text(json.dumps({"v": values}))
  return folder


def _run(folder, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["check_formats.py", str(folder)])
  return check_formats.main()


def _change(folder, dataset, change):
  path = folder / dataset / "expected.json"
  values = json.loads(path.read_text())
  change(next(iter(values.values())))
  path.write_text(json.dumps(values))


def test_right_values_pass(samples, monkeypatch, capsys):
  assert _run(samples, monkeypatch) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 8 and all(line.startswith("ok") for line in lines[:-1])


@pytest.mark.parametrize(
  ("dataset", "change"),
  [
    ("scannet", lambda v: v.update(num_frames=16)),
    ("scannet", lambda v: v["depth_sum"].__setitem__(9, 0)),
    ("scannet", lambda v: v["color_sha256"].reverse()),
    ("scannet", lambda v: v.update(imu_frames=0)),
    ("scannet", lambda v: v.update(unheard_of=1)),
    ("perception_test", lambda v: v.update(num_frames=60)),
    ("perception_test", lambda v: v.update(clip_starts_stride4=[1])),
    ("perception_test", lambda v: v["visible"][0][0].__setitem__(3, False)),
    ("perception_test", lambda v: v["xy_first_clip"][0].reverse() or
     v["xy_first_clip"][0].__setitem__(5, [0.5, 0.25])),
    ("perception_test", lambda v: v.update(queries_kept=[[]])),
  ],
)  # fmt: skip
def test_wrong_values_fail(
  samples, tmp_path, monkeypatch, capsys, dataset, change
):
  shutil.copytree(samples / dataset, tmp_path / dataset)
  _change(tmp_path, dataset, change)
  assert _run(tmp_path, monkeypatch) == 1
  assert f"FAIL {dataset}" in capsys.readouterr().out


def test_a_damaged_sample_or_an_unknown_folder_fails(
  samples, tmp_path, monkeypatch, capsys
):
  shutil.copytree(samples / "scannet", tmp_path / "scannet")
  (tmp_path / "kinetics").mkdir()
  path = tmp_path / "scannet" / "scans" / SCAN / f"{SCAN}.sens"
  data = np.frombuffer(path.read_bytes(), np.uint8).copy()
  data[-40] ^= 1
  path.write_bytes(data.tobytes())
  assert _run(tmp_path, monkeypatch) == 1
  out = capsys.readouterr().out
  assert "FAIL scannet" in out and "FAIL kinetics: no check" in out
  with pytest.raises(SystemExit):
    _run(tmp_path / "nowhere", monkeypatch)
