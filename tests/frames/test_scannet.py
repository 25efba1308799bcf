"""ScanNet: what clips hold, which are chosen, what is left out."""

import struct
import zlib

import made_scannet as made
import numpy as np
import pytest
from made_scannet import config, write_lists, write_scan
from PIL import Image

from forecasting.frames import pipeline, scannet, scannet_scans
from forecasting.frames.clip import validate_clip
from forecasting.frames.scannet_images import DamagedError
from forecasting.frames.scannet_sens import SensFile
from forecasting.frames.windows import eval_list_hash

SCAN = "scene0000_00"


@pytest.fixture
def download(tmp_path):
  write_lists(tmp_path, SCAN)
  return tmp_path


def _open(folder, split="eval", **changes):
  return pipeline.open_source(config(folder, **changes), split, folder / "root")


def _expected_depth(k, size, shift=1000.0):
  """Nearest raw values at the centers of the centered square."""
  width, height = made.DEPTH
  share = made.COLOR[1] / made.COLOR[0]
  depth = np.empty((size, size))
  for row in range(size):
    for column in range(size):
      x = (1 - share) / 2 + (column + 0.5) / size * share
      y = (row + 0.5) / size
      depth[row, column] = made.depth(k)[int(y * height), int(x * width)]
  return depth / shift


@pytest.mark.parametrize("codec", ["zlib", "raw"])
def test_a_clip_holds_the_frames_it_says(download, codec):
  frames, changes = {}, {}
  if codec == "raw":
    changes["depth_codec"] = struct.pack("<i", 0)
    frames = {
      k: made.frame(k, depth_blob=made.depth(k).tobytes()) for k in range(40)
    }
  write_scan(download, num_frames=40, frames=frames, **changes)
  source = _open(download)
  assert isinstance(source, pipeline.ClipSource)
  assert [str(source[i]["clip_id"]) for i in range(len(source))] == [
    f"{SCAN}:2",
    f"{SCAN}:22",
  ]
  clip = validate_clip(source[1])
  assert clip["start_frame"] == 22 and clip["stride"] == 1
  np.testing.assert_allclose(clip["seconds"], np.arange(16) / 30, atol=1e-4)
  assert clip["depth"].dtype == np.float32
  for k in range(16):
    np.testing.assert_allclose(
      clip["depth"][k, ..., 0], _expected_depth(22 + k, 12), rtol=1e-6
    )
    picture = clip["video"][k].astype(int)
    # Red runs along x over the middle 3/4 of the width, green along y.
    wanted = (0.125 + 0.75 * (np.arange(12) + 0.5) / 12) * 255
    assert np.abs(picture[..., 0].mean(0) - wanted).max() < 5
    wanted = (np.arange(12) + 0.5) / 12 * 255
    assert np.abs(picture[..., 1].mean(1) - wanted).max() < 8
    assert abs(picture[..., 2].mean() - 10 * (22 + k) % 256) < 5
  with pytest.raises(IndexError):
    source[2]


def test_images_of_both_exporters_are_the_same_clips(download):
  sens = SensFile(write_scan(download, num_frames=17))
  whole = _open(download, "train")[1]
  for layout in ("python", "cpp"):
    folder = download / layout
    scan = folder / SCAN
    (scan / "color").mkdir(parents=True)
    (scan / "depth").mkdir()
    write_lists(folder, SCAN)
    for k in range(17):
      python = layout == "python"
      name = f"color/{k}.jpg" if python else f"frame-{k:06d}.color.jpg"
      (scan / name).write_bytes(sens.color_bytes(k))
      name = f"depth/{k}.png" if python else f"frame-{k:06d}.depth.pgm"
      Image.fromarray(sens.depth(k)).save(scan / name)
    if layout == "cpp":
      (scan / "color").rmdir(), (scan / "depth").rmdir()
    clip = _open(folder, "train")[1]
    for key in ("video", "depth", "clip_id", "start_frame"):
      np.testing.assert_array_equal(clip[key], whole[key])
    np.testing.assert_allclose(clip["seconds"], whole["seconds"], atol=1e-4)
  (scan / "_info.txt").write_text("m_depthShift = 500\n")
  np.testing.assert_allclose(
    scannet.read_window(scannet_scans.ExtractedScan(scan), 1, 16, 12, True)[1],
    2 * whole["depth"],
  )


def test_missing_and_unreadable_images_cost_the_clips_that_need_them(download):
  scan = download / SCAN
  (scan / "color").mkdir(parents=True)
  (scan / "depth").mkdir()
  for k in range(40):
    (scan / f"color/{k}.jpg").write_bytes(made.jpeg(made.color(k)))
    Image.fromarray(made.depth(k)).save(scan / f"depth/{k}.png")
  (scan / "depth/10.png").unlink()
  (scan / "color/30.jpg").write_bytes(b"nothing")
  Image.fromarray(made.depth(0).astype(np.uint8)).save(scan / "depth/0.png")
  source = _open(download, "train")
  assert [int(source[i]["start_frame"]) for i in range(len(source))] == [
    11, 12, 13, 14
  ]  # fmt: skip
  assert source.skipped == {
    "clip: depth does not decode": 1,
    "clip: a frame has no depth": 10,
    "clip: color does not decode": 10,
  }


def test_the_evaluation_list_is_written_and_does_not_depend_on_size(download):
  write_scan(download, num_frames=160)
  sources = [_open(download, size=size) for size in (8, 12)]
  assert len(sources[0]) == 8
  assert sources[0].fingerprint != sources[1].fingerprint
  assert sources[0].eval_list_hash == sources[1].eval_list_hash
  (path,) = (download / "root" / "eval_lists").iterdir()
  ids = path.read_text().split()
  assert ids == [f"{SCAN}:{2 + 20 * k}" for k in range(8)]
  assert sources[0].eval_list_hash == eval_list_hash(ids)
  assert len(_open(download, eval_windows=3)) == 3
  assert len(_open(download, eval_clips=5)) == 5


def test_training_windows_start_every_few_frames(download):
  write_scan(download, num_frames=30)
  source = _open(download, "train", window_stride=5)
  assert source.eval_list_hash is None
  starts = [int(source[i]["start_frame"]) for i in range(len(source))]
  assert starts == [0, 5, 10]
  assert len(_open(download, "train", train_clips=4)) == 4


def test_scans_that_cannot_be_used_are_counted(download, tmp_path):
  names = [f"scene000{i}_00" for i in range(6)]
  write_lists(download, *names)
  write_scan(download, names[0])
  write_scan(download, names[1], version=struct.pack("<I", 3))
  write_scan(download, names[2], content=b"".join(made.pieces())[:-100])
  write_scan(download, names[3], num_frames=15)
  write_scan(download, names[4], depth_codec=struct.pack("<i", 2))
  source = _open(download)
  assert len(source) == 1
  assert source.skipped == {
    "scan: wrong version": 1,
    "scan: cut off": 1,
    "scan: too short": 1,
    "scan: unsupported depth codec": 1,
    "scan: missing": 1,
  }


def test_bad_frames_cost_the_clips_that_hold_them(download):
  short = zlib.compress(made.depth(0).tobytes()[:-2])
  empty = made.depth(0) * 0
  empty.flat[:60] = 1000  # 7.8% of the pixels
  frames = {
    20: made.frame(20, color_blob=made.jpeg(made.color(0))[:-40]),
    40: made.frame(40, depth_blob=short),
    60: made.frame(60, depth_blob=zlib.compress(empty.tobytes())),
  }
  write_scan(download, num_frames=96, frames=frames)
  source = _open(download)  # windows start at 0, 16, ... 80
  starts = [int(source[i]["start_frame"]) for i in range(len(source))]
  assert starts == [0, 64, 80]
  assert source.skipped == {
    "clip: color does not decode": 1,
    "clip: depth does not decode": 1,
    "clip: little valid depth": 1,
  }
  # Pixels need no depth.
  source = _open(download, labels=())
  assert len(source) == 5 and source.labels == ()
  assert source.skipped == {"clip: color does not decode": 1}
  assert "depth" not in source[2]


def test_frames_are_checked_once(download, monkeypatch):
  path = write_scan(download, num_frames=32)
  before = _open(download)
  reads = []
  decode = SensFile.color

  def color(*args, **kwargs):
    reads.append(args)
    return decode(*args, **kwargs)

  monkeypatch.setattr(SensFile, "color", color)
  after = _open(download)
  assert not reads and after.fingerprint == before.fingerprint
  # A file that was touched is looked at anew.
  path.write_bytes(path.read_bytes())
  _open(download)
  assert len(reads) == 32


def test_a_damaged_memory_is_only_time_lost(download):
  write_scan(download, num_frames=32)
  before = _open(download)
  (memo,) = (download / "root" / "scannet-index").iterdir()
  for content in (b"", b"x" * 50, memo.read_bytes()[:-8]):
    memo.write_bytes(content)
    scannet.open_scan.cache_clear()
    after = _open(download)
    assert after.fingerprint == before.fingerprint
    np.testing.assert_array_equal(after[1]["video"], before[1]["video"])


def test_times_are_the_sensors_if_they_are_times(download):
  stamps = {k: made.frame(k, stamp=50_000 * k + 7) for k in range(17)}
  stamps[16] = made.frame(16, stamp=0)
  write_scan(download, num_frames=17, frames=stamps)
  source = _open(download, "train")
  np.testing.assert_allclose(
    source[0]["seconds"], np.arange(16) / 20, atol=1e-6
  )
  np.testing.assert_allclose(
    source[1]["seconds"], np.arange(16) / 30, atol=1e-6
  )


def test_errors_say_what_to_do(tmp_path):
  with pytest.raises(ValueError, match=r"--config\.data\.path"):
    _open(tmp_path, path="")
  with pytest.raises(FileNotFoundError, match="does not exist"):
    _open(tmp_path, path=str(tmp_path / "nowhere"))
  with pytest.raises(FileNotFoundError, match=r"scannetv2_val\.txt is missing"):
    _open(tmp_path)
  write_lists(tmp_path, SCAN, "../../etc/passwd")
  with pytest.raises(ValueError, match=r"line 2: '\.\./\.\./etc/passwd'"):
    _open(tmp_path)
  write_lists(tmp_path, SCAN)
  with pytest.raises(ValueError, match=r"no eval clip.*scan: missing"):
    _open(tmp_path)
  with pytest.raises(ValueError, match=r"data\.labels"):
    _open(tmp_path, labels=("boxes",))
  with pytest.raises(ValueError, match="splits"):
    _open(tmp_path, "futures")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"version": struct.pack("<I", 5)}, "offset 0: wrong version: 5"),
    ({"length": struct.pack("<Q", 1 << 60)}, "offset 4: bad header"),
    ({"color_codec": struct.pack("<i", 9)}, "color compression 9"),
    ({"color_size": struct.pack("<2I", 0, 5)}, "color of 0 x 5"),
    ({"depth_size": struct.pack("<2I", 1 << 31, 1 << 31)}, "depth of 2147"),
    ({"shift": struct.pack("<f", 0)}, "depth shift 0"),
    ({"shift": struct.pack("<f", np.nan)}, "depth shift nan"),
    ({"count": struct.pack("<Q", 1 << 62)}, "4611686018427387904 frames"),
  ],
)
def test_a_wrong_header_is_named_by_offset_and_field(
  tmp_path, changes, message
):
  path = tmp_path / "a.sens"
  path.write_bytes(b"".join(made.pieces(**changes)))
  with pytest.raises(DamagedError, match=message) as error:
    SensFile(path)
  assert str(path) in str(error.value)


def test_imu_records_are_counted_but_not_needed(tmp_path):
  path = tmp_path / "a.sens"
  for count in (None, 0, 3):
    path.write_bytes(b"".join(made.pieces(num_imu=count)))
    assert SensFile(path).num_imu_records() == count
  path.write_bytes(path.read_bytes()[:-1])
  file = SensFile(path)
  np.testing.assert_array_equal(file.depth(17), made.depth(17))
  with pytest.raises(DamagedError, match="3 records do not fit the 383 bytes"):
    file.num_imu_records()


def test_a_bomb_is_not_inflated(tmp_path):
  bomb = zlib.compress(bytes(1 << 24), 9)
  path = tmp_path / "a.sens"
  frames = {0: made.frame(0, depth_blob=bomb)}
  path.write_bytes(b"".join(made.pieces(1, frames)))
  with pytest.raises(DamagedError, match="over 1536 bytes, 1536 expected"):
    SensFile(path).depth(0)
