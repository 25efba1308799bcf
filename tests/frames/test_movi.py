"""MOVi folders as they are downloaded, made small, whole and damaged."""

import json
import os
import pickle
from pathlib import Path

import made_movi
import made_records
import numpy as np
import pytest

from forecasting.frames import movi, movi_scene, pipeline, tfds_folder, windows
from forecasting.frames.clip import validate_clip
from forecasting.frames.movi_scene import FrameFormat, Scene, SceneError

SHAPE = (8, 24, 32)
GOLDENS = Path(
  os.environ.get(
    "FORECASTING_GOLDENS",
    Path(__file__).parents[3] / "shared" / "reference" / "goldens",
  )
)


@pytest.fixture(scope="module")
def scenes():
  return {
    name: made_movi.MadeScene(seed, *SHAPE) for seed, name in enumerate("abc")
  }


@pytest.fixture(scope="module")
def records(scenes):
  return {
    name: made_records.example(scene.features(name))
    for name, scene in scenes.items()
  }


@pytest.fixture
def write(tmp_path, records):
  """Writes a folder with a and b to train on, c to evaluate on."""

  def write(name="movi_e", **options):
    path = tmp_path / name / "32x24" / "1.0.0"
    splits = {
      "train": [records["b"], records["a"]],
      "validation": [records["c"]],
    }
    made_movi.write_folder(path, splits, SHAPE, **options)
    return path

  return write


def same(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_agrees_with_stored_values(split):
  folder = GOLDENS / "formats" / "movi"
  if not folder.is_dir():
    pytest.skip(f"no goldens in {folder}; set FORECASTING_GOLDENS")
  dataset = tfds_folder.find_folder(folder)
  (shard,) = dataset.shards(split)
  scene = Scene(
    tfds_folder.read(shard, 0, None), movi.movi_index.frame_format(dataset)
  )
  with np.load(folder / f"tracks_{split}.npz") as stored:
    queries = stored[f"{scene.name}__query_points"]
    points = stored[f"{scene.name}__target_points"]
    occluded = stored[f"{scene.name}__occluded"]
  found = movi.movi_tracks.track(
    scene.geometry(range(scene.num_frames)), np.floor(queries).astype(int)
  )
  pixels = found.points * [scene.width, scene.height]
  np.testing.assert_allclose(pixels, points, atol=1e-3)
  assert (found.occluded == occluded).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_files_keep_all_bits(dtype, channels):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, np.iinfo(dtype).max, (11, 7, channels), dtype)
  pixels[4:6] = 0x7FFF & np.iinfo(dtype).max
  file = made_records.png(pixels)
  decoded = movi_scene.decode_png(file, 7, 11)
  assert decoded.dtype == dtype
  np.testing.assert_array_equal(decoded.reshape(pixels.shape), pixels)
  with pytest.raises(ValueError, match="instead of"):
    movi_scene.decode_png(file, 11, 7)


def test_scene_holds_what_was_written(scenes, records):
  made, scene = scenes["a"], Scene(records["a"], FrameFormat(*SHAPE))
  assert (scene.name, scene.num_frames, scene.num_instances) == ("a", 8, 2)
  frames = range(3, 7)
  geometry = scene.geometry(frames)
  np.testing.assert_array_equal(geometry.segments, made.segments[3:7])
  np.testing.assert_allclose(geometry.distance, made.distance[3:7], atol=3e-4)
  np.testing.assert_allclose(geometry.corners, made.corners[:, 3:7], atol=1e-5)
  coordinates, normals = geometry.surface(2)
  np.testing.assert_allclose(coordinates, made.coordinates[5], atol=1e-5)
  np.testing.assert_allclose(normals, made.normals[5], atol=2e-5)
  assert geometry.focal == pytest.approx(made_movi.FOCAL)


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_reads_both_formats(write, tmp_path, file_format):
  path = write(file_format=file_format, shards=2)
  source = pipeline.open_source(
    made_movi.settings(path), "train", tmp_path / "root"
  )
  assert isinstance(source, pipeline.ClipSource)
  assert (len(source), source.labels, source.skipped) == (2, ("points",), {})
  clips = [validate_clip(source[i]) for i in (1, 0)][::-1]
  names = [str(clip["clip_id"]) for clip in clips]
  assert [name.split(":")[0] for name in names] == ["train/a", "train/b"]
  assert clips[0]["video"].shape == (6, 16, 16, 3)
  assert 5 < clips[0]["track_mask"].sum() < 12  # few candidates, padded
  np.testing.assert_allclose(np.diff(clips[0]["seconds"]), 1 / 12, rtol=1e-5)
  with pytest.raises(IndexError):
    source[2]
  again = pickle.loads(pickle.dumps(source))
  assert same(again[0], clips[0])


def test_formats_and_parents_of_the_folder_give_the_same(write, tmp_path):
  clips = []
  for name, options in (
    ("x", {"file_format": "tfrecord"}),
    ("y", {"file_format": "array_record", "shards": 2}),
  ):
    write(name, **options)
    settings = made_movi.settings(tmp_path / name)
    source = movi.open_movi(settings, "train", tmp_path / "root")
    clips.append([source[i] for i in range(len(source))])
  assert all(same(a, b) for a, b in zip(*clips))


def test_tracks_stay_on_what_they_show(scenes, tmp_path):
  """Points of the moving box keep its color, cropped or not."""
  made = made_movi.MadeScene(0, 8, 96, 128)
  white = np.where(made.segments == 2, 255, 0).astype(np.uint8)
  video = np.repeat(white[..., None], 3, -1)
  features = made.features() | {
    "video": [made_records.png(frame, (0,)) for frame in video]
  }
  record = made_records.example(features)
  made_movi.write_folder(tmp_path / "d", {"train": [record]}, made.shape)
  for crop in (False, True):
    settings = made_movi.settings(
      tmp_path / "d",
      size=64,
      num_points=64,
      random_crop=crop,
      starts_per_video=3,
    )
    source = movi.open_movi(settings, "train", tmp_path / "root")
    assert len(source) == 3
    agree, bright = [], []
    for i in range(3):
      clip = source[i]
      x, y = np.moveaxis(np.clip(clip["tracks"], 0, 0.999) * 64, -1, 0)
      frame = np.arange(6)[:, None]
      color = clip["video"][frame, y.astype(int), x.astype(int), 0] > 127
      seen = clip["visible"] & clip["track_mask"]
      agree.append((color == color[0])[seen])
      bright.append(color[0][clip["track_mask"]])
    assert 0.02 < np.concatenate(bright).mean() < 0.7
    assert np.concatenate(agree).mean() > 0.97, crop


def test_windows_of_a_crop_are_within_the_frame():
  for seed in range(200):
    top, left, bottom, right = movi.draw_window(np.random.default_rng(seed))
    assert 0 <= top < bottom <= 1 + 1e-12 and 0 <= left < right <= 1 + 1e-12
    assert 0.29 < (bottom - top) * (right - left) <= 1
    assert 0.49 < (right - left) / (bottom - top) < 2.01


def test_choices_follow_from_the_seed_and_the_clip(write, tmp_path):
  path = write()

  def clips(**changes):
    settings = made_movi.settings(path, starts_per_video=2, **changes)
    source = movi.open_movi(settings, "train", tmp_path / "root")
    found = [source[i] for i in range(len(source))]
    return {str(clip["clip_id"]): clip for clip in found}, source.fingerprint

  first, name = clips()
  assert len(first) == 4
  again, other_name = clips(train_clips=2)
  assert all(same(again[key], first[key]) for key in again) and len(again) == 2
  assert other_name != name
  seeded, other_name = clips(seed=1)
  assert other_name != name
  shared = seeded.keys() & first.keys()
  assert not any(same(seeded[key], first[key]) for key in shared)


def test_evaluation_list_is_fixed_written_and_hashed(write, tmp_path):
  path = write()
  settings = made_movi.settings(path)
  source = movi.open_movi(settings, "eval", tmp_path / "root")
  assert [str(source[0]["clip_id"])] == ["validation/c:1"]
  written = list((tmp_path / "root" / "eval_lists").iterdir())
  assert [file.read_text() for file in written] == ["validation/c:1\n"]
  expected = windows.eval_list_hash(["validation/c:1"])
  assert source.eval_list_hash == expected and expected in written[0].name
  larger = made_movi.settings(path, size=24)
  other = movi.open_movi(larger, "eval", tmp_path / "root")
  assert other.eval_list_hash == expected


def test_files_are_looked_at_once(write, tmp_path, monkeypatch):
  path = write()
  settings = made_movi.settings(path)
  first = movi.open_movi(settings, "train", tmp_path / "root")
  with monkeypatch.context() as patch:
    patch.setattr(tfds_folder, "read", None)
    second = movi.open_movi(settings, "train", tmp_path / "root")
  assert second.fingerprint == first.fingerprint
  (memory, *_) = (tmp_path / "root").rglob("*.json")
  memory.write_text("{")
  third = movi.open_movi(settings, "train", tmp_path / "root")
  assert third.fingerprint == first.fingerprint


def cut(values):
  return values[:-1]


@pytest.mark.parametrize(
  "name, change, reason",
  [
    ("video", None, movi_scene.INCOMPLETE),
    ("video", cut, movi_scene.TOO_FEW),
    ("depth", None, movi_scene.INCOMPLETE),
    ("depth", cut, movi_scene.TOO_FEW),
    ("normal", lambda files: [files[0][:20], *files[1:]], "unreadable record"),
    ("segmentations", lambda files: [b"GIF", *files[1:]], "unreadable record"),
    ("instances/mass", cut, movi_scene.UNEQUAL),
    ("instances/asset_id", cut, movi_scene.UNEQUAL),
    ("instances/visibility", cut, movi_scene.UNEQUAL),
    ("instances/quaternions", cut, movi_scene.UNEQUAL),
    ("instances/bboxes_3d", cut, movi_scene.UNEQUAL),
    ("instances/bboxes_3d", None, movi_scene.INCOMPLETE),
    ("metadata/num_instances", lambda _: np.asarray([3]), movi_scene.UNEQUAL),
    ("metadata/num_frames", lambda _: np.asarray([7]), movi_scene.TOO_FEW),
    ("metadata/height", lambda _: np.asarray([32]), movi_scene.WRONG_SIZE),
    ("metadata/depth_range", lambda x: x[::-1], movi_scene.NO_DEPTH),
    ("metadata/depth_range", lambda x: x[[0, 0]], movi_scene.NO_DEPTH),
    ("metadata/depth_range", lambda x: x * np.nan, movi_scene.NOT_FINITE),
    ("metadata/video_name", lambda _: [b"\xff"], "unreadable record"),
    ("camera/positions", lambda x: x / 0, movi_scene.NOT_FINITE),
    ("camera/positions", cut, movi_scene.INCOMPLETE),
    ("camera/quaternions", lambda x: x * 0, movi_scene.NOT_FINITE),
    ("camera/focal_length", lambda x: -x, movi_scene.NOT_FINITE),
    ("camera/focal_length", lambda _: [b"x"], "unreadable record"),
  ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_records_are_skipped_and_counted(
  name, change, reason, scenes, records, tmp_path
):
  features = scenes["a"].features("bad")
  value = features.pop(name)
  if change:
    features[name] = change(value)
  splits = {"train": [made_records.example(features), records["a"]]}
  made_movi.write_folder(tmp_path / "d", splits, SHAPE)
  settings = made_movi.settings(tmp_path / "d")
  source = movi.open_movi(settings, "train", tmp_path / "root")
  assert source.skipped == {reason: 1}
  assert [str(source[0]["clip_id"])[:7]] == ["train/a"]


def test_wrong_kinds_of_images_are_skipped(scenes):
  features = scenes["a"].features()
  features["depth"] = features["segmentations"]
  with pytest.raises(SceneError, match=r"frame 0 of depth.*\(32, 24, 8, 0\)"):
    Scene(made_records.example(features))


def test_duplicates_and_short_videos_are_counted(records, scenes, tmp_path):
  short = made_movi.MadeScene(0, 4, *SHAPE[1:]).features("d")
  splits = {
    "train": [records["a"], records["a"], made_records.example(short)],
  }
  made_movi.write_folder(tmp_path / "d", splits, SHAPE)
  (tmp_path / "d" / "features.json").unlink()
  settings = made_movi.settings(tmp_path / "d")
  source = movi.open_movi(settings, "train", tmp_path / "root")
  assert source.skipped == {movi.movi_index.DUPLICATE: 1, "too short": 1}
  with pytest.raises(ValueError, match="no train clip of 9 frames"):
    settings = made_movi.settings(tmp_path / "d", num_frames=9)
    movi.open_movi(settings, "train", tmp_path / "root")


def test_structural_damage_is_named(write, tmp_path):
  path = write(file_format="array_record", shards=2)
  settings = made_movi.settings(path)
  shard = path / "movi_e-train.array_record-00001-of-00002"

  def error(kind=ValueError, split="train"):
    with pytest.raises(kind) as caught:
      movi.open_movi(settings, split, tmp_path / "root")
    return str(caught.value)

  content = shard.read_bytes()
  shard.write_bytes(content[: len(content) // 2])
  assert shard.name in error()
  shard.unlink()
  assert "lacks 1 of the 2 files" in error() and shard.name in error()
  info = path / "dataset_info.json"
  described = json.loads(info.read_text())
  described["splits"] = described["splits"][:1]
  info.write_text(json.dumps(described))
  assert "no split 'validation'" in error(split="eval")
  for change, complaint in (
    ({"name": 3}, "'name'"),
    ({"fileFormat": "riegeli"}, "readable are array_record, tfrecord"),
    ({"splits": {}}, "'splits'"),
    ({"splits": [{"name": "train"}]}, "shardLengths"),
    ({"splits": [{"name": "train", "shardLengths": ["x"]}]}, "shardLengths"),
  ):
    info.write_text(json.dumps(described | change))
    assert complaint in error() and str(info) in error()
  info.write_text("{")
  assert str(info) in error()
  info.unlink()
  assert "holds no dataset_info.json" in error(FileNotFoundError)


def test_wrong_counts_are_named(write, tmp_path):
  for file_format in tfds_folder.FORMATS:
    path = write(file_format, file_format=file_format)
    info = path / "dataset_info.json"
    info.write_text(info.read_text().replace('["2"]', '["3"]'))
    with pytest.raises(ValueError, match=r"holds 2 records, .* says 3"):
      movi.open_movi(made_movi.settings(path), "train", tmp_path / "root")


def test_damaged_tfrecord_is_named(write, tmp_path):
  path = write()
  (shard,) = path.glob("*train*")
  content = bytearray(shard.read_bytes())
  content[len(content) // 3] ^= 4
  shard.write_bytes(content)
  with pytest.raises(ValueError, match=rf"{shard.name}.*byte 12 .*damaged"):
    movi.open_movi(made_movi.settings(path), "train", tmp_path / "root")


def test_a_folder_of_something_else_is_named(write, tmp_path):
  path = write()
  (path / "features.json").write_text('{"featuresDict": {"features": {}}}')
  with pytest.raises(ValueError, match=r"features\.json: feature 'video'"):
    movi.open_movi(made_movi.settings(path), "train", tmp_path / "root")
  write("other")
  with pytest.raises(ValueError, match="several data sets"):
    movi.open_movi(made_movi.settings(tmp_path), "train", tmp_path / "root")
