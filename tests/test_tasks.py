"""The task rows: scores and vectors of perfect and of wrong forecasts."""

import numpy as np
import pytest

from forecasting.tasks import TASKS, scores_per_lead, to_unit_range, visible

START, SAMPLES = 4, 2


@pytest.fixture
def labels():
  rng = np.random.default_rng(0)
  corner = rng.uniform(0.1, 0.4, size=(3, 16, 2, 2)).astype(np.float32)
  return {
    "video": rng.integers(0, 256, (3, 16, 28, 28, 3), dtype=np.uint8),
    "depth": rng.uniform(1, 4, (3, 16, 28, 28, 1)).astype(np.float16),
    "tracks": rng.uniform(size=(3, 16, 5, 2)).astype(np.float32),
    "visible": np.ones((3, 16, 5), bool),
    "track_mask": np.ones((3, 5), bool),
    "boxes": np.concatenate([corner, corner + 0.3], axis=-1),
    "box_mask": np.ones((3, 16, 2), bool),
    "object_mask": np.ones((3, 2), bool),
  }


def perfect(labels):
  def repeat(value):
    value = np.asarray(value, np.float32)
    return np.repeat(value[:, None], SAMPLES, axis=1)

  certain = np.full(labels["visible"].shape, 10.0, np.float32)
  return {
    "pixels": {"video": repeat(to_unit_range(labels["video"]))},
    "depth": {"depth": repeat(labels["depth"])},
    "points": {
      "tracks": repeat(labels["tracks"]),
      "visible_logit": repeat(certain),
      "certainty_logit": repeat(certain),
    },
    "boxes": {"boxes": repeat(labels["boxes"])},
  }


@pytest.mark.parametrize(
  ("task", "best", "length"),
  [
    ("pixels", 100.0, 2352),
    ("depth", 0.0, 2352),
    ("points", 1.0, 24),
    ("boxes", 1.0, 48),
  ],
)
def test_a_perfect_forecast(labels, task, best, length):
  row, outputs = TASKS[task], perfect(labels)[task]
  scores = row.scores(outputs, labels, START)
  assert next(iter(scores)) == row.metric
  assert scores[row.metric].shape == (3, SAMPLES)
  np.testing.assert_allclose(scores[row.metric], best, atol=1e-6)
  rows = row.vectors(outputs, labels, START)
  assert rows.pred.shape[1:] == (SAMPLES, length)
  np.testing.assert_allclose(rows.pred[:, 0], rows.truth, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_only_the_future_frames_count(labels, task):
  row, outputs = TASKS[task], perfect(labels)[task]
  before = row.scores(outputs, labels, START)[row.metric]
  spoilt = {k: v.copy() for k, v in outputs.items()}
  for value in spoilt.values():
    value[:, :, :START] = 0.7
  after = row.scores(spoilt, labels, START)[row.metric]
  np.testing.assert_array_equal(before, after)
  for value in spoilt.values():
    value[:, :, START:] = 0.7
  worse = row.scores(spoilt, labels, START)[row.metric]
  assert (worse < before).all() == row.higher_is_better
  assert (worse != before).all()


@pytest.mark.parametrize(
  ("chances", "expected"),
  [((0.8, 0.7), True), ((0.7, 0.7), False), ((0.99, 0.4), False)],
)
def test_visible_if_both_chances_multiply_to_more_than_a_half(
  chances, expected
):
  logits = [np.log(p / (1 - p)) for p in chances]
  outputs = {
    "visible_logit": np.array([logits[0]]),
    "certainty_logit": np.array([logits[1]]),
  }
  assert visible(outputs).tolist() == [expected]


@pytest.mark.parametrize("task", TASKS)
def test_every_frame_is_scored_by_itself(labels, task):
  row, outputs = TASKS[task], perfect(labels)[task]
  name = next(iter(outputs))
  outputs[name] = outputs[name].copy()
  outputs[name][:, 1, 7] += 0.3
  found = scores_per_lead(row, outputs, labels, START)
  assert found.shape == (3, SAMPLES, 12)
  best = {"pixels": 100.0, "depth": 0.0}.get(task, 1.0)
  wrong = np.abs(found - best) > 1e-6
  assert np.all(wrong[:, 1, 7 - START])
  wrong[:, 1, 7 - START] = False
  assert not np.any(wrong)
  if task in ("pixels", "boxes"):  # means over frames of equal weight
    mean = row.scores(outputs, labels, START)[row.metric]
    np.testing.assert_allclose(found.mean(-1), mean, rtol=1e-5)
