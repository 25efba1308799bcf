"""Scores against several true futures, against plain loops."""

import numpy as np
import pytest

from forecasting.metrics import conditional, proper
from forecasting.metrics.vectors import Vectors

FRAMES, LENGTH = 3, 6


def part(rng, ids, pred):
  """One future's rows: `ids` are the (example, track) that are complete."""
  return Vectors(
    pred=np.stack([pred[i] for i in ids]),
    truth=rng.normal(size=(len(ids), LENGTH)),
    example=np.array([i[0] for i in ids]),
    track=np.array([i[1] for i in ids]),
    num_examples=2,
    num_dropped=0,
    num_frames=FRAMES,
  )


@pytest.fixture
def futures():
  rng = np.random.default_rng(0)
  ids = [(0, 0), (0, 3), (1, 1)]
  pred = {i: rng.normal(size=(5, LENGTH)) for i in ids}
  # Track (1, 1) is complete in one of four futures only.
  kept = [ids, ids[:2], ids[:1], ids[:2]]
  return pred, [part(rng, k, pred) for k in kept]


def outcomes(parts, example, track):
  return np.stack(
    [
      p.truth[i]
      for p in parts
      for i in range(len(p.truth))
      if (p.example[i], p.track[i]) == (example, track)
    ]
  )


def test_rows_complete_in_fewer_than_half_of_the_futures_are_dropped(futures):
  _, parts = futures
  rows = conditional.gather(parts)
  assert rows.example.tolist() == [0, 0]
  assert rows.valid.tolist() == [[True] * 4, [True, True, False, True]]


def test_energy_score_is_the_mean_of_each_futures_fair_score(futures):
  pred, parts = futures
  rows = conditional.gather(parts)
  scores = conditional.forecast_energy_score(rows)
  for row, track in enumerate((0, 3)):
    truth = outcomes(parts, 0, track)
    members = np.repeat(pred[(0, track)][None], len(truth), axis=0)
    expected = proper.energy_score(members, truth).mean()
    assert scores[row] == pytest.approx(expected, rel=1e-12)


def test_true_sampler_leaves_out_the_future_it_is_scored_on(futures):
  _, parts = futures
  scores = conditional.true_energy_score(conditional.gather(parts))
  for row, track in enumerate((0, 3)):
    truth = outcomes(parts, 0, track)
    fair = [
      proper.energy_score(np.delete(truth, f, axis=0)[None], truth[f][None])[0]
      for f in range(len(truth))
    ]
    assert scores[row] == pytest.approx(np.mean(fair), rel=1e-12)


def test_resampled_members_are_scored_on_the_other_futures(futures):
  _, parts = futures
  rng = np.random.default_rng(1)
  rows = conditional.gather(parts)
  members = rng.normal(size=(2, 4, LENGTH))
  rows = conditional.Conditional(
    members, rows.truth, rows.valid, rows.example, FRAMES
  )
  scores = conditional.resampled_energy_score(rows)
  for row in range(2):
    kept = np.flatnonzero(rows.valid[row])
    fair = [
      proper.energy_score(
        members[row, kept[kept != f]][None], rows.truth[row, f][None]
      )[0]
      for f in kept
    ]
    assert scores[row] == pytest.approx(np.mean(fair), rel=1e-12)


def test_the_true_sampler_is_not_beaten_by_a_narrower_or_a_wider_one():
  rng = np.random.default_rng(2)
  shape = (400, 16, LENGTH)
  truth, noise = rng.normal(size=shape), rng.normal(size=shape)
  example = np.arange(shape[0])
  valid = np.ones(shape[:2], bool)

  def mean_score(scale):
    rows = conditional.Conditional(noise * scale, truth, valid, example, FRAMES)
    return conditional.forecast_energy_score(rows).mean()

  rows = conditional.Conditional(noise, truth, valid, example, FRAMES)
  floor = conditional.true_energy_score(rows).mean()
  assert mean_score(1.0) == pytest.approx(floor, rel=0.02)
  assert mean_score(0.5) > 1.03 * floor
  assert mean_score(2.0) > 1.03 * floor


def test_spread_skill_of_exchangeable_members_is_one():
  rng = np.random.default_rng(3)
  rows = conditional.Conditional(
    rng.normal(size=(2000, 8, LENGTH)),
    rng.normal(size=(2000, 4, LENGTH)),
    np.ones((2000, 4), bool),
    np.arange(2000),
    FRAMES,
  )
  spread, error = conditional.spread_skill_terms(rows)
  assert spread.shape == (2000, FRAMES)
  ratio = np.sqrt(spread.sum(axis=0) / error.sum(axis=0))
  np.testing.assert_allclose(ratio, 1.0, atol=0.03)
