"""Dressed forecasts are spread by as much as their readout is unsure."""

import dataclasses

import numpy as np
import pytest

from forecasting.metrics import dressing, proper, vectors

CLIPS, TRACKS, FRAMES, SAMPLES = 40, 5, 6, 8


def rows_of(pred, truth):
  count = len(truth)
  return vectors.Vectors(
    pred=pred,
    truth=truth,
    example=np.arange(count) // TRACKS,
    track=np.arange(count) % TRACKS,
    num_examples=CLIPS,
    num_dropped=0,
    num_frames=FRAMES,
  )


def made(forecast=0.5, readout=1.0, seed=0):
  """An exact forecaster behind a readout with errors that last all frames.

  What is uncertain is a `forecast` part, which samples share with the truth in
  distribution, and a `readout` part, which they lack.
  """
  rng = np.random.default_rng(seed)
  count = CLIPS * TRACKS
  shape = np.linspace(0.5, 1.5, 2 * FRAMES)

  def draw(*size):
    return rng.normal(size=(*size, 1)) * shape

  known = rng.normal(size=(count, 2 * FRAMES))
  errors = readout * draw(count)
  truth = known + forecast * draw(count) + errors
  pred = known[:, None] + forecast * draw(count, SAMPLES)
  return rows_of(pred, truth), readout * draw(3000)


def spread_skill(rows):
  spread, error = proper.spread_skill_terms(
    rows.pred, rows.truth, rows.num_frames
  )
  return np.sqrt(spread.sum(axis=0) / error.sum(axis=0))


IDS = [1000 + 7 * clip for clip in range(CLIPS)]


def test_an_exact_forecaster_becomes_calibrated_at_every_frame():
  rows, errors = made()
  dressed = dressing.Dressing({"points": errors}, 0).dress("points", rows, IDS)
  assert (spread_skill(rows) < 0.6).all()
  np.testing.assert_allclose(spread_skill(dressed), 1.0, atol=0.1)
  before, after = (
    proper.energy_score(r.pred, r.truth).mean() for r in (rows, dressed)
  )
  assert after < 0.9 * before
  # Errors of a row belong together: as correlated over frames as they are.
  added = (dressed.pred - rows.pred).reshape(-1, 2 * FRAMES)
  assert np.corrcoef(added.T).min() > 0.999
  np.testing.assert_array_equal(dressed.truth, rows.truth)


def test_more_uncertainty_than_there_is_does_not_pay():
  rows, errors = made()
  scores = []
  for scale in (0.0, 1.0, 3.0):
    worn = dressing.Dressing({"points": scale * errors}, 0)
    found = worn.dress("points", rows, IDS)
    scores.append(proper.energy_score(found.pred, found.truth).mean())
  assert scores[1] < min(scores[0], scores[2])


def test_a_draw_is_of_the_seed_the_clip_and_the_track_alone():
  rows, errors = made()
  worn = dressing.Dressing({"points": errors}, 4)
  whole = worn.dress("points", rows, IDS)
  # Other clips around it, in another order, and fewer samples.
  part = np.flatnonzero(np.isin(rows.example, (3, 11)))[::-1]
  place = {3: 1, 11: 0}
  some = dataclasses.replace(
    rows,
    pred=rows.pred[part, :3],
    truth=rows.truth[part],
    example=np.array([place[i] for i in rows.example[part]]),
    track=rows.track[part],
  )
  found = worn.dress("points", some, [IDS[11], IDS[3]])
  np.testing.assert_array_equal(found.pred, whole.pred[part, :3])
  added = whole.pred - rows.pred
  assert len(np.unique(added[:, 0].round(9), axis=0)) > 0.9 * len(added)
  other = dressing.Dressing({"points": errors}, -5).dress("points", rows, IDS)
  assert (other.pred != whole.pred).any(axis=(1, 2)).all()


@pytest.mark.parametrize("case", ["task", "errors", "sample", "rows"])
def test_nothing_is_dressed_without_errors_samples_or_rows(case):
  rows, errors = made()
  task = "boxes" if case == "task" else "points"
  if case == "errors":
    errors = errors[:0]
  if case == "sample":
    rows = rows.first_sample()
  if case == "rows":
    rows = rows_of(rows.pred[:0], rows.truth[:0])
  worn = dressing.Dressing({"points": errors}, 0)
  assert worn.dress(task, rows, IDS) is None


def test_errors_are_truth_less_readout_where_that_is_finite():
  rows, _ = made()
  rows.pred[4, 0, 3] = np.nan
  found = dressing.errors_of(rows.first_sample())
  kept = np.arange(len(rows.truth)) != 4
  np.testing.assert_array_equal(found, rows.truth[kept] - rows.pred[kept][:, 0])
