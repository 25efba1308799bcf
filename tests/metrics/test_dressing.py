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


def made(forecast=0.5, readout=1.0, seed=0, samples=SAMPLES, width=1.0):
  """An exact forecaster behind a readout with errors that last all frames.

  What is uncertain is a `forecast` part, which samples share with the truth in
  distribution if their `width` is 1, and a `readout` part, which they lack.
  """
  rng = np.random.default_rng(seed)
  count = CLIPS * TRACKS
  shape = np.linspace(0.5, 1.5, 2 * FRAMES)

  def draw(*size):
    return rng.normal(size=(*size, 1)) * shape

  known = rng.normal(size=(count, 2 * FRAMES))
  errors = readout * draw(count)
  truth = known + forecast * draw(count) + errors
  pred = known[:, None] + forecast * width * draw(count, samples)
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


@pytest.mark.parametrize("samples", [2, 10])
@pytest.mark.parametrize("width", [0.4, 1.0])
def test_the_spread_of_a_forecaster_is_fitted_on_other_clips(width, samples):
  widths = np.repeat(np.linspace(0.5, 1, FRAMES) * width, 2)

  def draw(seed):
    return made(readout=0.2, seed=seed, samples=samples, width=widths)

  def many(seeds):
    return vectors.concatenate([draw(seed)[0] for seed in seeds])

  plain = dressing.Dressing({"points": draw(0)[1]}, 0)
  worn = plain.fitted({"points": many(range(1, 21))})
  np.testing.assert_allclose(
    worn.widening["points"], 1 / widths[::2], rtol=0.15
  )
  rows = many(range(21, 41))
  ids = [1000 + 7 * clip for clip in range(rows.num_examples)]
  found, before = (d.dress("points", rows, ids) for d in (worn, plain))
  np.testing.assert_allclose(spread_skill(found), 1, atol=0.06)
  if width < 1:
    after, before = (
      proper.energy_score(r.pred, r.truth).mean() for r in (found, before)
    )
    assert after < before
  # Nothing that is added to a sample depends on the others.
  fewer = dataclasses.replace(rows, pred=rows.pred[:, :2])
  np.testing.assert_array_equal(
    worn.dress("points", fewer, ids).pred, found.pred[:, :2]
  )


def test_samples_that_vary_too_much_are_left_alone():
  rows, errors = made(width=3.0)
  plain = dressing.Dressing({"points": errors}, 0)
  worn = plain.fitted({"points": rows})
  np.testing.assert_array_equal(worn.widening["points"], np.ones(FRAMES))
  found, before = (d.dress("points", rows, IDS).pred for d in (worn, plain))
  np.testing.assert_array_equal(found, before)


@pytest.mark.parametrize("case", ["sample", "rows", "task", "alike"])
def test_no_noise_is_fitted_where_nothing_can_be_said(case):
  rows, errors = made()
  if case == "sample":
    rows = rows.first_sample()
  if case == "rows":
    rows = rows_of(rows.pred[:0], rows.truth[:0])
  if case == "alike":
    rows.pred[:] = rows.pred[:, :1]
  tasks = {"depth": rows} if case == "task" else {"points": rows}
  worn = dressing.Dressing({"points": errors}, 0).fitted(tasks)
  if case == "alike":
    np.testing.assert_array_equal(worn.noise["points"], 0)
  else:
    assert not worn.noise


def test_forecasts_that_are_no_numbers_do_not_count_in_the_fit():
  rows, errors = made(width=0.5)
  plain = dressing.Dressing({"points": errors}, 0)
  kept = rows_of(rows.pred[5:], rows.truth[5:])
  expected = plain.fitted({"points": kept}).widening["points"]
  rows.pred[:5, 2, 1] = np.nan
  found = plain.fitted({"points": rows}).widening["points"]
  np.testing.assert_array_equal(found, expected)
  assert (found > 1.3).all()
