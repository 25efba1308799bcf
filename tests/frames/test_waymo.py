"""Waymo Open segments as they are downloaded, made small, whole and damaged."""

import pickle

import made_records
import made_waymo
import numpy as np
import pyarrow as pa
import pytest
from made_waymo import BOX, MadeSegment, steady, times

from forecasting.frames import (
  pipeline,
  waymo,
  waymo_segment,
  waymo_v1,
  waymo_v2,
  windows,
)
from forecasting.frames.clip import validate_clip

FRAMES = 40
WRITERS = {"v1": made_waymo.write_v1, "v2": made_waymo.write_v2}
both = pytest.mark.parametrize("version", ["v1", "v2"])


def segment(**changes):
  return MadeSegment(
    **{
      "times": times(FRAMES),
      "objects": {"x": steady(range(FRAMES))},
      **changes,
    }
  )


def open_clips(path, split="train", **changes):
  settings = made_waymo.settings(path / "d", **changes)
  return waymo.open_waymo(settings, split, path / "root")


def same(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@both
def test_clip_holds_what_was_written(version, tmp_path):
  WRITERS[version](tmp_path / "d", segment())
  source = pipeline.open_source(
    made_waymo.settings(tmp_path / "d"), "train", tmp_path / "root"
  )
  assert isinstance(source, pipeline.ClipSource)
  assert (source.labels, source.skipped) == (("boxes",), {})
  # 20 kept frames: starts 0 and 3, in the camera's frames 0 and 6.
  clips = [validate_clip(source[i]) for i in range(len(source))]
  names = [str(clip["clip_id"]) for clip in clips]
  assert names == ["1001_100_000_120_000:0", "1001_100_000_120_000:6"]
  clip = clips[1]
  assert (clip["start_frame"], clip["stride"]) == (6, 2)
  gray = clip["video"].mean((1, 2, 3))
  np.testing.assert_allclose(gray, 10 + 4 * np.arange(6, 38, 2), atol=2)
  exact = np.asarray(times(FRAMES))[6:38:2]
  np.testing.assert_allclose(
    clip["seconds"], (exact - exact[0]) / 1e6, atol=1e-6
  )
  assert clip["object_mask"].tolist() == [True] + [False] * 24
  assert clip["box_mask"][:, 0].all() and not clip["box_mask"][:, 1:].any()
  # The square is the middle 1280 of 1920 pixels.
  x = 960 + 4 * np.arange(6, 38, 2)
  left, right = (x - 100 - 320) / 1280, (x + 100 - 320) / 1280
  np.testing.assert_allclose(clip["boxes"][:, 0, 1], left, rtol=1e-6)
  np.testing.assert_allclose(clip["boxes"][:, 0, 3], right, rtol=1e-6)
  np.testing.assert_allclose(clip["boxes"][:, 0, 0], (640 - 75) / 1280)
  np.testing.assert_allclose(clip["boxes"][:, 0, 2], (640 + 75) / 1280)
  assert same(pickle.loads(pickle.dumps(source))[1], clip)
  with pytest.raises(IndexError):
    source[2]


def test_both_formats_give_the_same_clips(tmp_path):
  made = segment(
    objects={
      "x": steady(range(FRAMES)),
      "y": steady(range(30), (700.0, 500.0), (300.0, 300.0)),
      "z": steady(range(12, FRAMES), (1100.0, 800.0)),
    }
  )
  clips = []
  for version, write in WRITERS.items():
    write(tmp_path / version / "d", made)
    source = open_clips(tmp_path / version, window_stride=1)
    clips.append([source[i] for i in range(len(source))])
  assert len(clips[0]) == 5
  assert all(same(a, b) for a, b in zip(*clips))


def test_evaluation_windows_are_apart_listed_and_hashed(tmp_path):
  made = segment(times=times(70), objects={"x": steady(range(70), speed=1.0)})
  made_waymo.write_v2(tmp_path / "d", made, "validation")
  source = open_clips(tmp_path, "eval")
  names = [str(source[i]["clip_id"]) for i in range(len(source))]
  assert names == ["1001_100_000_120_000:0", "1001_100_000_120_000:32"]
  (written,) = (tmp_path / "root" / "eval_lists").iterdir()
  assert written.read_text().split() == names
  assert source.eval_list_hash == windows.eval_list_hash(names)
  thinned = open_clips(tmp_path, "eval", eval_clips=1, size=32)
  assert len(thinned) == 1
  assert thinned.fingerprint != source.fingerprint


def test_pixels_and_boxes_are_cut_alike(tmp_path):
  """A bright rectangle in the image is where its box says."""
  images = {}
  objects = {"x": {}}
  for i in range(FRAMES):
    pixels = np.zeros((128, 192, 3), np.uint8)
    top, left = 30 + i, 50 + i  # of 24 rows and 40 columns; 10 pixels each
    pixels[top : top + 24, left : left + 40] = 255
    file = made_waymo.io.BytesIO()
    made_waymo.Image.fromarray(pixels).save(file, "JPEG", quality=100)
    images[i] = file.getvalue()
    objects["x"][i] = (10 * left + 200, 10 * top + 120, 400, 240)
  made_waymo.write_v2(tmp_path / "d", segment(images=images, objects=objects))
  clip = open_clips(tmp_path, size=128)[1]
  for frame, box in zip(clip["video"], clip["boxes"][:, 0]):
    rows, columns = np.nonzero(frame[..., 0] > 127)
    found = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    np.testing.assert_allclose(np.asarray(found) / 128, box, atol=1.1 / 128)


@both
def test_gaps_in_time_end_a_run(version, tmp_path):
  late = [time + 400_000 * (i >= 34) for i, time in enumerate(times(80))]
  made = segment(times=late, objects={"x": steady(range(80), speed=1.0)})
  WRITERS[version](tmp_path / "d", made)
  source = open_clips(tmp_path, window_stride=1)
  starts = [int(source[i]["start_frame"]) for i in range(len(source))]
  # 17 kept frames before the gap, 23 after it.
  assert starts == [0, 2, *range(34, 34 + 2 * 8, 2)]


def test_other_frame_rates_are_skipped(tmp_path):
  made = segment(times=[1000 * t for t in range(0, 200 * FRAMES, 200)])
  made_waymo.write_v2(tmp_path / "d", made)
  with pytest.raises(ValueError, match=waymo.BAD_RATE):
    open_clips(tmp_path)


def test_unlabelled_frames_have_no_boxes(tmp_path):
  made_waymo.write_v1(tmp_path / "d", segment(unlabelled=(8, 20)))
  source = open_clips(tmp_path)
  assert source.skipped == {waymo_segment.NO_LABELS: 2}
  mask = source[0]["box_mask"][:, 0]
  assert np.flatnonzero(~mask).tolist() == [4, 10]


@both
def test_bad_boxes_are_dropped_and_counted(version, tmp_path):
  good = steady(range(FRAMES))
  bad = dict(good)
  bad[4] = (float("nan"), 1.0, 2.0, 3.0)
  bad[6] = (960.0, 640.0, -5.0, 100.0)
  made = segment(objects={"x": bad, "y": steady(range(FRAMES))})
  WRITERS[version](tmp_path / "d", made)
  source = open_clips(tmp_path)
  assert source.skipped == {waymo_segment.BAD_BOX: 2}
  clip = source[0]
  column = int(np.flatnonzero(clip["object_ids"][:2] == 0)[0])
  missing = np.flatnonzero(~clip["box_mask"][:, column])
  assert missing.tolist() == [2, 3]


def test_first_of_duplicates_counts():
  frames = [(20, (0, 0)), (10, (0, 1)), (20, (0, 2))]
  boxes = [
    (20, "x", 5.0, 5.0, 1.0, 1.0),
    (20, "x", 9.0, 9.0, 1.0, 1.0),
    (30, "x", 5.0, 5.0, 1.0, 1.0),
  ]
  found = waymo_segment.assemble("s", frames, boxes, waymo.Counter())
  assert found.timestamps.tolist() == [10, 20]
  assert found.places == ((0, 1), (0, 0))
  assert found.box_frame.tolist() == [1]
  np.testing.assert_allclose(
    found.boxes, [[4.5 / 1280, 4.5 / 1920, 5.5 / 1280, 5.5 / 1920]]
  )
  assert found.skipped == {
    waymo_segment.DUPLICATE_FRAME: 1,
    waymo_segment.DUPLICATE_BOX: 1,
    waymo_segment.NO_IMAGE: 1,
  }
  again = waymo_segment.from_json(found.to_json())
  assert again.places == found.places and again.skipped == found.skipped
  np.testing.assert_array_equal(again.boxes, found.boxes)


@pytest.mark.parametrize("spell", [str, {1: "FRONT", 3: "SIDE"}.get])
def test_cameras_may_be_spelled(spell, tmp_path):
  made_waymo.write_v2(tmp_path / "number" / "d", segment())
  made_waymo.write_v2(tmp_path / "text" / "d", segment(), camera=spell)
  clips = [open_clips(tmp_path / name)[0] for name in ("number", "text")]
  assert same(*clips)


def test_only_needed_columns_and_row_groups_are_read(tmp_path, monkeypatch):
  made_waymo.write_v2(tmp_path / "d", segment(), groups=10)
  asked = []
  original = waymo_v2.parquet.ParquetFile.iter_batches

  def iter_batches(self, size, groups, columns, **options):
    asked.append((tuple(groups), tuple(columns)))
    return original(self, size, groups, columns, **options)

  monkeypatch.setattr(
    waymo_v2.parquet.ParquetFile, "iter_batches", iter_batches
  )
  waymo_v2._read_rows.cache_clear()
  (images, boxes) = (
    tmp_path / "d" / "training" / part / "1001_100_000_120_000.parquet"
    for part in ("camera_image", "camera_box")
  )
  found = waymo_v2.index_segment("s", images, boxes)
  assert not asked
  place = found.places[7]
  (image,) = waymo_v2.read_images(images, [place], found.places)
  assert image == made_waymo.jpeg(7)
  assert asked == [((place[0],), ("[CameraImageComponent].image",))]


@pytest.mark.parametrize("component", ["camera_image", "camera_box"])
def test_missing_components_are_counted(component, tmp_path):
  made_waymo.write_v2(tmp_path / "d", segment())
  paths = made_waymo.write_v2(tmp_path / "d", segment(name="2002"))
  next(path for path in paths if path.parent.name == component).unlink()
  source = open_clips(tmp_path)
  assert source.skipped == {f"segment: no {component} file": 1}


def test_segments_without_boxes_are_counted(tmp_path):
  made_waymo.write_v2(tmp_path / "d", segment())
  made_waymo.write_v2(tmp_path / "d", segment(name="2002", objects={}))
  small = {"x": steady(range(FRAMES), size=(9.0, 9.0))}
  made_waymo.write_v2(tmp_path / "d", segment(name="3003", objects=small))
  source = open_clips(tmp_path)
  assert source.skipped == {waymo.NO_BOXES: 1, waymo.NO_OBJECT: 2}


def test_rows_without_a_key_are_counted(tmp_path):
  made = segment()
  count = len(made.boxes()) + 1
  ids = pa.array([None, *["x"] * (count - 2), "side"], pa.string())
  made_waymo.write_v2(
    tmp_path / "d", made, camera_box={"key.camera_object_id": ids}
  )
  assert open_clips(tmp_path).skipped == {waymo_v2.NO_KEY: 1}


@pytest.mark.parametrize(
  "component, column",
  [
    ("camera_image", "[CameraImageComponent].image"),
    ("camera_image", "key.frame_timestamp_micros"),
    ("camera_box", BOX + "size.y"),
    ("camera_box", "key.camera_object_id"),
  ],
)
def test_missing_columns_are_named(component, column, tmp_path):
  made_waymo.write_v2(tmp_path / "d", segment(), **{component: {column: None}})
  with pytest.raises(ValueError) as caught:
    open_clips(tmp_path)
  assert column in str(caught.value) and component in str(caught.value)


def test_columns_of_another_type_are_named(tmp_path):
  made = segment()
  texts = ["far left"] * (len(made.boxes()) + 1)
  made_waymo.write_v2(
    tmp_path / "d", made, camera_box={BOX + "center.x": texts}
  )
  with pytest.raises(ValueError, match=r"camera_box.*\.parquet cannot be read"):
    open_clips(tmp_path)


@both
def test_cut_files_are_named(version, tmp_path):
  path = WRITERS[version](tmp_path / "d", segment())
  path = path if version == "v1" else path[0]
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])
  with pytest.raises(ValueError, match=path.name):
    open_clips(tmp_path)


@both
def test_images_that_do_not_decode_are_named(version, tmp_path):
  broken = made_waymo.jpeg(4)[:200]
  WRITERS[version](tmp_path / "d", segment(images={4: broken}))
  source = open_clips(tmp_path)
  with pytest.raises(ValueError, match=rf"1001.*{times(FRAMES)[4]} us"):
    source[0]


def test_messages_of_another_kind_are_named(tmp_path):
  f = made_records.field
  for record, complaint in (
    (f(1, f(1, "s")), "timestamp_micros is missing"),
    (f(2, "x"), "timestamp_micros has wire type 2"),
    (f(2, 1) + f(4, 3), "images has wire type 0"),
    (
      f(2, 1) + f(4, f(1, 1) + f(2, b"j")) + f(8, f(1, 1) + f(2, b"\x0b")),
      "wire type 3",
    ),
  ):
    made_waymo.write_v1(tmp_path / "d", segment(), records=[record])
    with pytest.raises(ValueError, match=complaint) as caught:
      open_clips(tmp_path)
    assert "byte 12" in str(caught.value)


def test_frames_without_a_front_image_are_counted(tmp_path):
  made = segment()
  records = [made_waymo.frame(made, i) for i in range(FRAMES)]
  f = made_records.field
  records.append(f(2, made.times[-1] + 100_000) + f(4, f(1, 2) + f(2, b"x")))
  made_waymo.write_v1(tmp_path / "d", made, records=records)
  assert open_clips(tmp_path).skipped == {waymo_v1.NO_FRONT: 1}


def test_a_folder_without_segments_says_what_is_expected(tmp_path):
  with pytest.raises(FileNotFoundError, match="does not exist"):
    open_clips(tmp_path)
  (tmp_path / "d").mkdir()
  with pytest.raises(
    FileNotFoundError, match=r"validation/.*parquet.*tfrecord"
  ):
    open_clips(tmp_path, "eval")
  with pytest.raises(ValueError, match="splits 'train' and 'eval'"):
    open_clips(tmp_path, "futures")
