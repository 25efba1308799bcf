"""Rows tell of dressed forecasts beside plain ones."""

import dataclasses
import json

import numpy as np
import pytest
from box_clips import SAMPLES, perception, predictor, settings, write

from forecasting import evaluator
from forecasting.metrics.dressing import Dressing
from forecasting.samples.predict import Predictor


@pytest.fixture(scope="module", name="clips")
def fixture_clips(tmp_path_factory):
  return write(tmp_path_factory.mktemp("clips") / "eval")


def forecast(tasks, batch):
  """Forecasts whose error is drawn by the clip alone."""
  shape = (SAMPLES, *batch["boxes"].shape[1:])
  noise = [
    np.random.default_rng(int(i)).normal(size=shape)
    for i in batch["example_id"]
  ]
  boxes = batch["boxes"][:, None] + 0.05 * np.stack(noise)
  return {"boxes": {"boxes": boxes.astype(np.float32)}}


@pytest.mark.parametrize("batch_size", [2, 4])
def test_dressing_moves_samples_and_not_what_is_scored_by_example(
  clips, batch_size
):
  worn = Dressing({"boxes": np.full((1, 48), 0.25)}, seed=3)
  rows = {}
  for name, given in (("plain", None), ("dressed", lambda predictor: worn)):
    futures = dataclasses.replace(settings(batch_size), futures_per_context=2)
    (rows[name],) = evaluator.evaluate(
      [Predictor("made", "baseline", 0, forecast)],
      perception(),
      clips,
      futures,
      futures=clips,
      dress=given,
    )
  plain, dressed = rows["plain"], rows["dressed"]
  assert "dressed" not in plain and "dressed" not in plain["futures"]
  for name in ("scores", "clips"):
    assert json.dumps(plain[name]) == json.dumps(dressed[name])
  found = dressed["dressed"]["scores"]
  # Every sample is off by the same: no more spread, much more error.
  before = plain["scores"]
  assert found["spread"]["value"] == pytest.approx(before["spread"]["value"])
  assert found["spread_skill"]["value"] < 0.5 * before["spread_skill"]["value"]
  assert found["crps"]["value"] > before["crps"]["value"] + 0.15
  assert np.isnan([found["fd_1"]["low"], found["fd_1"]["high"]]).all()
  known = dressed["futures"]
  assert set(known["dressed"]) <= set(known)
  for name in ("energy_score", "relative_energy_score"):
    assert known["dressed"][name]["value"] > known[name]["value"]


def test_single_forecasts_and_tasks_without_errors_are_not_dressed(clips):
  for errors, samples in (({}, SAMPLES), ({"boxes": np.ones((1, 48))}, 1)):
    (row,) = evaluator.evaluate(
      [predictor(samples=samples)],
      perception(),
      clips,
      settings(),
      dress=lambda predictor, errors=errors: Dressing(errors, 0),
    )
    assert "dressed" not in row
