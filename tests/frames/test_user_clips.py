"""Clips from a TFDS folder and from a user's function."""

import json
import sys
import types
import zlib

import made_records
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from ml_collections import ConfigDict

from forecasting.frames import pipeline
from forecasting.frames.clip import validate_clip

SHAPE = (6, 8, 12)


def element(k):
  rng = np.random.default_rng(k)
  return {
    "video": rng.integers(0, 256, (*SHAPE, 3), np.uint8),
    "seconds": (np.arange(6) / 5).astype(np.float32),
    "clip_id": f"mine {k}",
    "tracks": rng.uniform(size=(6, 2, 2)).astype(np.float32),
    "visible": np.ones((6, 2), bool),
    "track_mask": np.ones(2, bool),
    "weather": b"fine",
  }


def settings(name, path, **changes):
  return ConfigDict(
    {
      "name": name,
      "path": str(path),
      "size": 8,
      "num_frames": 4,
      "train_clips": 10,
      "eval_clips": 10,
      **changes,
    }
  )


@pytest.fixture
def tfds_folder(tmp_path):
  """A data set of three clips, written without the package's writer."""
  tfds = pytest.importorskip("tensorflow_datasets")
  folder = tmp_path / "mine" / "1.0.0"
  folder.mkdir(parents=True)
  tensor = tfds.features.Tensor
  features = {
    "video": tensor(shape=(*SHAPE, 3), dtype=np.uint8, encoding="zlib"),
    "seconds": tensor(shape=(6,), dtype=np.float32),
    "clip_id": tfds.features.Text(),
    "tracks": tensor(shape=(6, 2, 2), dtype=np.float32),
    "visible": tensor(shape=(6, 2), dtype=np.bool_),
    "track_mask": tensor(shape=(2,), dtype=np.bool_),
    "weather": tfds.features.Text(),
  }
  tfds.features.FeaturesDict(features).save_config(str(folder))
  splits = []
  for split in ("train", "test"):
    name = f"mine-{split}.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(folder / name), "group_size:1")
    for k in range(3):
      lists = element(k) | {"clip_id": [f"mine {k}".encode()]}
      lists["video"] = [zlib.compress(lists["video"].tobytes())]
      lists["weather"] = [b"fine"]
      for key in ("visible", "track_mask"):
        lists[key] = lists[key].astype(int)
      lists["tracks"] = lists["tracks"].ravel()
      writer.write(made_records.example(lists))
    writer.close()
    splits.append({"name": split, "numBytes": "9", "shardLengths": ["3"]})
    splits[-1]["filepathTemplate"] = (
      "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    )
  info = {"name": "mine", "version": "1.0.0", "fileFormat": "array_record"}
  info |= {"moduleName": "__main__", "splits": splits}
  (folder / "dataset_info.json").write_text(json.dumps(info))
  return folder


def check(source, k):
  clip = validate_clip(source[k])
  made = element(k)
  assert str(clip["clip_id"]) == made["clip_id"]
  assert (clip["start_frame"], clip["stride"]) == (0, 1)
  assert clip["video"].shape == (4, 8, 8, 3) and "weather" not in clip
  np.testing.assert_array_equal(clip["tracks"], made["tracks"][:4])


def test_reads_a_tfds_folder(tfds_folder, tmp_path):
  data = settings("tfds", tfds_folder)
  source = pipeline.open_source(data, "train", tmp_path / "root")
  assert isinstance(source, pipeline.ClipSource)
  assert (len(source), source.labels, source.skipped) == (3, ("points",), {})
  check(source, 2)
  assert "tensorflow" not in sys.modules
  scored = pipeline.open_source(data, "eval", tmp_path / "root")
  assert scored.fingerprint != source.fingerprint
  (written,) = (tmp_path / "root" / "eval_lists").iterdir()
  assert written.read_text() == "mine 0\nmine 1\nmine 2\n"


def test_a_folder_of_something_else_is_named(tmp_path):
  with pytest.raises((FileNotFoundError, ValueError), match=r"nothing|splits"):
    pipeline.open_source(
      settings("tfds", tmp_path / "nothing"), "train", tmp_path
    )
  with pytest.raises(ValueError, match=r"data\.path is not set"):
    pipeline.open_source(settings("tfds", ""), "train", tmp_path)


@pytest.fixture
def module(monkeypatch):
  module = types.ModuleType("my_clips")
  module.open_split = lambda split: [element(k) for k in range(3)]
  monkeypatch.setitem(sys.modules, "my_clips", module)
  return module


def test_reads_what_a_function_returns(module, tmp_path):
  data = settings("grain", "my_clips:open_split", train_clips=2)
  source = pipeline.open_source(data, "train", tmp_path)
  assert len(source) == 2
  check(source, 0)
  with pytest.raises(IndexError):
    source[2]


@pytest.mark.parametrize(
  "change, complaint",
  [
    ({"video": None}, "'video'"),
    ({"video": np.zeros((3, 8, 8, 3), np.uint8)}, "3 frames, 4 needed"),
    ({"seconds": np.zeros(6, np.float32)}, "seconds"),
    ({"tracks": np.zeros((6, 3, 2), np.float32)}, "visible"),
  ],
)
def test_clips_that_break_the_rules_are_named(
  module, change, complaint, tmp_path
):
  module.open_split = lambda split: [element(0) | change]
  with pytest.raises(ValueError, match=complaint) as caught:
    pipeline.open_source(
      settings("grain", "my_clips:open_split"), "train", tmp_path
    )
  assert "'grain', train, element 0" in str(caught.value)


def test_functions_that_are_not_there_are_named(module, tmp_path):
  for path in ("my_clips:other", "no_such_module:f", "my_clips"):
    with pytest.raises(ValueError, match="is no package"):
      pipeline.open_source(settings("grain", path), "train", tmp_path)


def test_labels_are_those_of_the_first(module, tmp_path):
  points = ("tracks", "visible", "track_mask")
  bare = {k: v for k, v in element(1).items() if k not in points}
  module.open_split = lambda split: [element(0), bare]
  source = pipeline.open_source(
    settings("grain", "my_clips:open_split"), "train", tmp_path
  )
  with pytest.raises(ValueError, match=r"has the labels \(\)"):
    source[1]
