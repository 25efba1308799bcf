"""`open_source`: splits, fingerprints, workers."""

import hashlib
import pickle

import numpy as np
import pytest

from forecasting import config
from forecasting.frames import cache, mujoco_scenes, pipeline
from forecasting.frames import clip as clips


def small_data():
  data = config.data_config()
  data.update(
    {
      "size": 16,
      "train_clips": 6,
      "eval_clips": 3,
      "future_contexts": 2,
      "futures_per_context": 3,
      "workers": 0,
      "num_points": 8,
    }
  )
  return data


def test_splits_have_their_sizes_and_their_own_scenes(tmp_path):
  data = small_data()
  sources = {
    split: pipeline.open_source(data, split, tmp_path)
    for split in pipeline.SPLITS
  }
  assert [len(source) for source in sources.values()] == [6, 3, 6]
  for split, source in sources.items():
    assert (source.name, source.split) == ("mujoco_scenes", split)
    assert source.labels == ("depth", "points", "boxes")
    assert source.skipped == {}
    clips.validate_clip(source[len(source) - 1])
  first = [source[0]["video"].tobytes() for source in sources.values()]
  assert len(set(first)) == 3
  assert len({source.fingerprint for source in sources.values()}) == 3


def test_clips_are_the_generator_s(tmp_path):
  data = small_data()
  data.scenes.turn_probability = 1.0
  source = pipeline.open_source(data, "eval", tmp_path)
  scene_config = mujoco_scenes.SceneConfig(
    size=16, num_points=8, turn_probability=1.0
  )
  clip = mujoco_scenes.generate(scene_config, 0, 1, 2)
  assert clips.encode_clip(source[2]) == clips.encode_clip(clip)


def test_futures_of_a_context_are_neighbors(tmp_path):
  source = pipeline.open_source(small_data(), "futures", tmp_path)
  videos = np.stack([source[i]["video"] for i in range(6)])
  for context in (videos[:3], videos[3:]):
    np.testing.assert_array_equal(context[1:, :4], context[:-1, :4])
    assert np.all(np.any(context[1:, 4:] != context[:-1, 4:], axis=(1, 2, 3)))
  assert np.any(videos[0, :4] != videos[3, :4])


def test_fingerprint_knows_what_matters(tmp_path):
  def fingerprint(split="eval", **changes):
    data = small_data()
    data.eval_clips = data.future_contexts = 1
    with data.unlocked():
      data.update(changes)
    return pipeline.open_source(data, split, tmp_path).fingerprint

  base = fingerprint()
  for changes in ({"size": 8}, {"rays": 2}, {"num_points": 4}, {"seed": 1}):
    assert fingerprint(**changes) != base
  for changes in ({"eval_clips": 2}, {"futures_per_context": 2}):
    assert fingerprint(**changes) == base
  assert fingerprint("futures") != fingerprint("futures", futures_per_context=2)


def test_workers_write_the_same_bytes(tmp_path, monkeypatch):
  monkeypatch.setattr(cache, "CLIPS_WORTH_WORKERS", 1)
  digests = []
  for workers in (0, 2):
    data = small_data()
    data.workers = workers
    root = tmp_path / str(workers)
    pipeline.open_source(data, "train", root)
    (shard,) = root.rglob("*.arrayrecord")
    digests.append(hashlib.sha256(shard.read_bytes()).hexdigest())
  assert digests[0] == digests[1]


def test_source_can_be_sent_to_a_worker(tmp_path):
  source = pipeline.open_source(small_data(), "eval", tmp_path)
  expected = source[1]["video"]
  again = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(again[1]["video"], expected)


@pytest.mark.parametrize(
  ("name", "split", "message"),
  [
    ("mujoco_scenes", "test", "choose from"),
    ("kinetics", "train", "data.name='kinetics' is unknown"),
  ],
)
def test_unknown_names_are_refused(tmp_path, name, split, message):
  data = small_data()
  data.name = name
  with pytest.raises(ValueError, match=message):
    pipeline.open_source(data, split, tmp_path)
