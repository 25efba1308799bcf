"""From downloads as they lie on disk to result rows, on small made ones.

One pipeline per data set of the paper, with its settings but for the sizes.
"""

import math
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from binaries import rows

from forecasting import config as config_lib
from forecasting import encoders, experiment, extract, main, presets

sys.path.insert(0, str(Path(__file__).parent / "frames"))
import made_movi
import made_perception
import made_records
import made_scannet
import made_videos
import made_waymo

SMALL = {
  "forecasters": ("regression",),
  "baselines": ("persistence_output",),
  "data.num_points": 12,
  "data.held_out_clips": 0,
  "latents.batch_size": 2,
  "readout.width": 32,
  "readout.query_hidden": 32,
  "readout.train_queries": 16,
  "readout.steps": 2,
  "forecaster.steps": 2,
  "train.batch_size": 2,
  "eval.batch_size": 2,
  "eval.num_samples": 2,
  "eval.bootstrap": 10,
  "eval.bootstrap_frechet": 2,
}


def scannet(folder):
  """A scan without depth in frame 30, and one that is not there."""
  hole = zlib.compress(np.zeros_like(made_scannet.depth(0)).tobytes())
  frames = {30: made_scannet.frame(30, depth_blob=hole)}
  made_scannet.write_scan(folder, num_frames=60, frames=frames)
  made_scannet.write_lists(folder, "scene0000_00", "scene0001_00")
  return {"data.path": str(folder)}


def movi_and_perception_test(folder):
  """Other numbers of tracks to train and to score on; a lost video."""
  shape = (18, 24, 32)
  records = [
    made_records.example(made_movi.MadeScene(k, *shape).features(name))
    for k, name in enumerate("ab")
  ]
  movi = folder / "movi_e" / "32x24" / "1.0.0"
  splits = {"train": records}
  made_movi.write_folder(movi, splits, shape, file_format="array_record")
  videos = {}
  for name, count, num_points in (("v1", 130, 14), ("v2", 70, 3)):
    made_perception.write_clip(folder, name, count)
    xy = np.linspace([0.1, 0.2], [0.8, 0.9], num_points)
    points = [
      made_perception.point(k, range(count), place)
      for k, place in enumerate(xy)
    ]
    videos[name] = made_perception.video(points, count=count)
  videos["lost"] = videos["v2"]
  made_perception.write_labels(folder, videos)
  return {"data.path": str(movi), "data.eval_path": str(folder)}


def waymo(folder):
  """An object that leaves, and a segment whose boxes were not downloaded."""
  objects = {
    "stays": made_waymo.steady(range(80)),
    "leaves": made_waymo.steady(range(26), center=(700.0, 500.0)),
  }
  for split in ("training", "validation"):
    segment = made_waymo.MadeSegment(made_waymo.times(80), objects)
    made_waymo.write_v2(folder, segment, split)
    segment.name = "1002_100_000_120_000"
    made_waymo.write_v2(folder, segment, split)[1].unlink()
  return {"data.path": str(folder)}


CASES = {
  "scannet": (
    scannet,
    ("pixels", "depth"),
    # Windows of 16 frames: 9 and 3, less those that show frame 30.
    (5, 2),
    {"scan: missing": 1, "clip: little valid depth": 1},
  ),
  "perception_test": (
    movi_and_perception_test,
    ("points",),
    (2, 3),
    {"video: missing": 1},
  ),
  "waymo": (waymo, ("boxes",), (9, 2), {"segment: no camera_box file": 1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("dataset", CASES)
def test_a_download_gives_result_rows(dataset, tmp_path):
  write, tasks, num_clips, skipped = CASES[dataset]
  cfg = config_lib.experiment("4ds_tiny", tasks)("smoke")
  paths = write(tmp_path / "download")
  cfg.update_from_flattened_dict({**presets.PAPER[tasks[-1]], **SMALL, **paths})

  encoder = encoders.load(cfg)
  found = tuple(
    len(extract.extract(cfg, split, tmp_path, encoder))
    for split in ("train", "eval")
  )
  assert found == num_clips
  cfg.latents.extract_if_missing = False
  report = main.run(cfg, tmp_path)
  assert report.stat().st_size > 10_000
  scored = rows(tmp_path)
  assert {(row["task"], row["forecaster"]) for row in scored.values()} == {
    (task, name)
    for task in tasks
    for name in ("regression", "persistence_output")
  }
  (listed,) = (tmp_path / "data" / "eval_lists").glob(f"{dataset}-*.txt")
  for row in scored.values():
    assert row["dataset"] == dataset
    assert row["skipped"] == skipped
    assert row["dataset_train"] == cfg.data.name
    assert row["eval_list_hash"] == listed.stem.partition("-")[2]
    assert row["num_examples"] + row["num_excluded"] == num_clips[1]
    for name in ("mean", "best", "perception"):
      assert math.isfinite(row["scores"][name]["value"]), name
  assert len(listed.read_text().splitlines()) == num_clips[1]

  main.evaluate(experiment.open_experiment(cfg, tmp_path), tmp_path)
  assert rows(tmp_path) == scored


@pytest.mark.slow
def test_a_folder_of_videos_gives_result_rows(tmp_path):
  folder = tmp_path / "videos"
  folder.mkdir()
  for name, rate in (("a.mp4", 25), ("b.mkv", 50)):
    made_videos.write_video(folder / name, made_videos.noise(60), rate=rate)
  made_videos.write_video(folder / "short.avi", made_videos.flat(5))
  made_videos.write_audio(folder / "sound.mp4")
  (folder / "torn.webm").write_bytes(b"no video")
  cfg = config_lib.experiment("4ds_tiny", "pixels")("smoke")
  cfg.update_from_flattened_dict(
    {**SMALL, "data.name": "videos", "data.path": str(folder)}
  )
  assert main.run(cfg, tmp_path / "run").stat().st_size > 10_000
  scored = rows(tmp_path / "run").values()
  assert {row["forecaster"] for row in scored} == {
    "regression",
    "persistence_output",
  }
  for row in scored:
    assert row["task"] == "pixels" and row["dataset"] == "videos"
    assert sum(row["skipped"].values()) == 3
    # Of the last 30 % of the longer one, 18 frames.
    assert row["num_examples"] == 3
    for name in ("mean", "best", "perception", "fd_1"):
      assert math.isfinite(row["scores"][name]["value"]), name


def test_labels_that_only_the_training_data_has_are_named(
  monkeypatch, tmp_path
):
  manifests = {
    "train": SimpleNamespace(dataset="scannet", labels=("video", "depth")),
    "eval": SimpleNamespace(dataset="videos", labels=("video",)),
  }
  stores = {k: SimpleNamespace(manifest=v) for k, v in manifests.items()}
  monkeypatch.setattr(experiment, "_open_stores", lambda *_: stores)
  cfg = config_lib.experiment("4ds_tiny", ("pixels", "depth"))()
  with pytest.raises(ValueError, match=r"'depth'.*videos \(eval\) does not"):
    experiment.open_experiment(cfg, tmp_path)
