"""Clips held out of training, and the readouts' errors on them."""

import numpy as np
import pytest
from box_clips import CLIPS, predictor, settings, write
from ml_collections import ConfigDict

from forecasting import config as config_lib
from forecasting import held_out
from forecasting.experiment import open_experiment
from forecasting.latents import pipeline
from forecasting.samples.predict import Predictor


@pytest.fixture(scope="module", name="clips")
def fixture_clips(tmp_path_factory):
  return write(tmp_path_factory.mktemp("clips") / "train")


def ids(store):
  return [str(store[i]["clip_id"]) for i in range(len(store))]


def test_every_clip_is_trained_on_or_held_out(clips):
  stores = held_out.split({"train": clips, "eval": clips}, 2)
  assert ids(stores["train"]) + ids(stores["held_out"]) == ids(clips)
  assert len(stores["held_out"]) == 2
  batches = pipeline.train_batches(stores["train"], 2, 0, process=(0, 1))
  seen = np.concatenate([next(batches)["example_id"] for _ in range(20)])
  spared = [stores["held_out"][i]["example_id"] for i in range(2)]
  assert len(np.unique(seen)) == CLIPS - 2
  assert not np.isin(spared, seen).any()


def test_nothing_is_held_out_unless_asked_for(clips):
  assert held_out.split({"train": clips}, 0) == {"train": clips}


def test_more_has_to_be_left_to_train_on_than_is_held_out(clips):
  for number, left in ((4, 2), (99, 0)):
    with pytest.raises(
      ValueError, match=f"of 6 training clips leave {left} to"
    ):
      held_out.split({"train": clips}, number)


def readout(clips):
  """Reads out boxes that are off by a tenth more from clip to clip."""
  places = {int(clips[i]["example_id"]): i for i in range(len(clips))}

  def predict(tasks, batch):
    off = [0.1 * places[int(i)] for i in batch["example_id"]]
    boxes = batch["boxes"][:, None] - np.reshape(off, (-1, 1, 1, 1, 1))
    return {"boxes": {"boxes": boxes}}

  return Predictor("oracle_future", "oracle", 0, predict)


def config_of(number, spread=0):
  fields = {"dressing_clips": number, "spread_clips": spread}
  return ConfigDict({"eval": fields, "seed": 0})


def errors(clips, stores, number):
  dress = held_out.dresser(
    config_of(number), stores, readout(clips), settings()
  )
  return None if dress is None else dress(predictor()).errors["boxes"]


def test_errors_are_those_of_the_clips_asked_for(clips):
  stores = {"train": clips}
  # Two objects a clip; the last of the clips 0, 2 and 5 has none.
  expected = np.repeat([0.0, 0.0, 0.2, 0.2], 48).reshape(4, 48)
  np.testing.assert_allclose(errors(clips, stores, 3), expected, atol=1e-6)
  assert errors(clips, stores, 0) is None


def test_errors_are_of_clips_held_out_if_there_are_any(clips):
  stores = held_out.split({"train": clips}, 3)  # 3, 4 and the empty 5
  expected = np.repeat([0.3, 0.3, 0.4, 0.4], 48).reshape(4, 48)
  np.testing.assert_allclose(errors(clips, stores, 9), expected, atol=1e-6)


def test_spread_is_fitted_on_clips_held_out_alone(clips):
  seen = []

  def predict(tasks, batch):
    seen.extend(batch["example_id"][batch["mask"]])
    boxes = batch["boxes"]
    return {"boxes": {"boxes": np.stack([boxes, boxes + 0.1], axis=1)}}

  forecaster = Predictor("made", "baseline", 0, predict)
  for number, stores in (
    (2, held_out.split({"train": clips}, 3)),
    (0, held_out.split({"train": clips}, 3)),
    (2, {"train": clips}),
  ):
    seen.clear()
    dress = held_out.dresser(
      config_of(9, number), stores, readout(clips), settings()
    )
    dressing = dress(forecaster)
    if number and "held_out" in stores:
      spared = [stores["held_out"][i]["example_id"] for i in (0, 2)]
      assert sorted(seen) == sorted(spared)
      assert dressing.widening["boxes"].shape == (12,)
    else:
      assert not seen and not dressing.widening


def test_simulated_clips_beyond_those_held_out_train_alike(tmp_path):
  """More clips of which as many are held out are the same training set."""
  runs = []
  for number, held in ((6, 0), (8, 2)):
    config = config_lib.experiment("4ds_tiny", "boxes")("smoke")
    config.data.train_clips, config.data.held_out_clips = number, held
    config.data.eval_clips, config.data.future_contexts = 2, 0
    runs.append(open_experiment(config, tmp_path))
  short, long = runs
  assert ids(short.stores["train"]) == ids(long.stores["train"])
  assert "held_out" not in short.stores and len(long.stores["held_out"]) == 2
  np.testing.assert_array_equal(short.stats.mean, long.stats.mean)
