import numpy as np
import pytest

from forecasting.metrics import summary
from forecasting.metrics.proper import (
  crps,
  energy_score,
  energy_score_by_lead,
  rank_deviation,
  rank_histogram,
  spread_skill_terms,
)


def _ensemble(rows, members, length, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(rows, members, length)), rng.normal(
    size=(rows, length)
  )


def _spread_skill(pred, truth, frames):
  return summary.ratio_per_lead(*spread_skill_terms(pred, truth, frames))


def _fair_loops(members, truth, distance):
  """The definition, pair by pair."""
  number = len(members)
  to_truth = sum(distance(x, truth) for x in members) / number
  pairs = [
    distance(members[i], members[j])
    for i in range(number)
    for j in range(number)
    if i != j
  ]
  return to_truth - (sum(pairs) / len(pairs) / 2 if pairs else 0.0)


@pytest.mark.parametrize("members", [1, 2, 3, 10])
def test_scores_match_the_definition(members):
  pred, truth = _ensemble(4, members, 6)
  scores, energies = crps(pred, truth), energy_score(pred, truth)
  for r in range(4):
    for v in range(6):
      expected = _fair_loops(
        pred[r, :, v], truth[r, v], lambda a, b: abs(a - b)
      )
      assert scores[r, v] == pytest.approx(expected, abs=1e-13)
    expected = _fair_loops(
      pred[r], truth[r], lambda a, b: np.linalg.norm(a - b)
    )
    assert energies[r] == pytest.approx(expected, abs=1e-13)


def test_one_member_scores_its_distance():
  pred, truth = _ensemble(3, 1, 5, seed=1)
  np.testing.assert_allclose(crps(pred, truth), np.abs(pred[:, 0] - truth))
  distance = np.linalg.norm(pred[:, 0] - truth, axis=1)
  np.testing.assert_allclose(energy_score(pred, truth), distance)


def test_fair_scores_are_unbiased_in_the_number_of_members():
  rng = np.random.default_rng(2)
  truth = rng.normal(size=(20000, 3))
  results = []
  for members in (2, 50):
    # Wrong mean and spread, so that both terms of the scores matter.
    count = len(truth) if members == 2 else 4000
    pred = 0.3 + 1.4 * rng.normal(size=(count, members, 3))
    for values in (
      crps(pred, truth[:count]).mean(axis=1),
      energy_score(pred, truth[:count]),
    ):
      results.append((values.mean(), values.std() / np.sqrt(count)))
  for few, many in zip(results[:2], results[2:]):
    assert abs(few[0] - many[0]) < 3 * np.hypot(few[1], many[1])
  # The usual divisor M^2 would fail: at M = 2 it is off by a quarter of the
  # mean distance between members.
  bias = 1.4 * 2 / np.sqrt(np.pi) / 4
  assert bias > 10 * np.hypot(results[0][1], results[2][1])


def test_expected_crps_of_a_calibrated_gaussian():
  rng = np.random.default_rng(3)
  draws = rng.normal(size=(40000, 6, 1))
  values = crps(draws[:, 1:], draws[:, 0])
  error = values.std() / np.sqrt(len(values))
  assert abs(values.mean() - 1 / np.sqrt(np.pi)) < 4 * error


def test_energy_score_by_lead_scores_each_frame_alone():
  pred, truth = _ensemble(3, 4, 6, seed=5)
  by_lead = energy_score_by_lead(pred, truth, num_frames=3)
  expected = energy_score(pred[..., 2:4], truth[:, 2:4])
  np.testing.assert_array_equal(by_lead[:, 1], expected)


@pytest.mark.parametrize("members", [2, 10])
def test_spread_skill_is_one_for_a_calibrated_ensemble(members):
  rng = np.random.default_rng(11)
  mean = rng.normal(size=(4000, 1, 8))
  # The later frame is three times as uncertain as the first.
  scale = np.repeat([1.0, 3.0], 4)
  draws = mean + scale * rng.normal(size=(4000, members + 1, 8))
  ratio = _spread_skill(draws[:, 1:], draws[:, 0], 2)
  np.testing.assert_allclose(ratio, 1.0, atol=0.03)
  narrow = mean + 0.5 * (draws[:, 1:] - mean)
  ratio = _spread_skill(narrow, draws[:, 0], 2)
  assert max(ratio) < 0.75


def test_spread_skill_by_hand():
  pred = np.array([[[0.0, 1.0], [2.0, 1.0]]])
  truth = np.array([[4.0, 2.0]])
  # Frame 1: variance 2, times 3/2, over an error of 3^2. Frame 2: no spread.
  expected = [np.sqrt(3.0 / 9.0), 0.0]
  np.testing.assert_allclose(_spread_skill(pred, truth, 2), expected)
  spread, error = spread_skill_terms(pred, truth, 2)
  np.testing.assert_allclose(spread, [[3.0, 0.0]])
  np.testing.assert_allclose(error, [[9.0, 1.0]])


def test_spread_skill_of_one_member_is_nan():
  pred, truth = _ensemble(3, 1, 4, seed=12)
  assert np.isnan(spread_skill_terms(pred, truth, 2)[0]).all()


def test_rank_histogram_by_hand():
  pred = np.array([[[1.0], [3.0]]] * 4)
  truth = np.array([[0.0], [2.0], [9.0], [3.0]])
  # The last ties with the upper member: half a count for each of its ranks.
  expected = np.array([[1.0, 1.5, 1.5]]) / 4
  np.testing.assert_allclose(rank_histogram(pred, truth), expected)
  np.testing.assert_allclose(rank_deviation(expected), [1 / 12])


def test_frames_with_a_member_that_is_not_finite_have_no_histogram():
  pred, truth = _ensemble(5, 4, 6, seed=4)
  clean = rank_histogram(pred, truth, 3)
  pred[2, 1, 3] = np.inf
  spoilt = rank_histogram(pred, truth, 3)
  assert np.isnan(spoilt[1]).all()
  np.testing.assert_array_equal(spoilt[[0, 2]], clean[[0, 2]])
  # Where there is no truth, nothing is ranked.
  truth[2, 3] = np.nan
  kept = np.arange(5) != 2
  np.testing.assert_allclose(
    rank_histogram(pred, truth, 3)[1] * 9,
    rank_histogram(pred[kept], truth[kept], 3)[1] * 8
    + rank_histogram(pred[2:3, :, 2:3], truth[2:3, 2:3])[0],
  )


def test_rank_histogram_is_flat_if_calibrated():
  draws = np.random.default_rng(13).normal(size=(6000, 6, 4))
  flat = rank_histogram(draws[:, 1:], draws[:, 0], num_frames=2)
  assert flat.shape == (2, 6)
  np.testing.assert_allclose(flat.sum(axis=1), 1.0)
  np.testing.assert_allclose(flat, 1 / 6, atol=0.015)
  narrow = rank_histogram(0.3 * draws[:, 1:], draws[:, 0])
  assert rank_deviation(narrow)[0] > 0.3 > rank_deviation(flat).max()


def test_order_of_members_does_not_matter():
  pred, truth = _ensemble(5, 4, 6, seed=14)
  flipped = pred[:, ::-1]
  for score in (crps, energy_score):
    np.testing.assert_allclose(
      score(flipped, truth), score(pred, truth), rtol=1e-12
    )
