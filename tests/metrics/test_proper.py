import numpy as np
import pytest

from forecasting.metrics.proper import (
  crps,
  energy_score,
  energy_score_by_lead,
  energy_score_matrix,
  rank_deviation,
  rank_histogram,
  spread_skill,
  spread_skill_terms,
  true_sampler_energy_score,
)


def _ensemble(rows, members, length, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(rows, members, length)), rng.normal(
    size=(rows, length)
  )


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


def test_masked_entries_never_count():
  pred, truth = _ensemble(5, 4, 6, seed=4)
  mask = np.ones((5, 6), bool)
  mask[:, 4:] = False
  junk_pred, junk_truth = pred.copy(), truth.copy()
  junk_pred[..., 4:] = np.nan
  junk_truth[:, 4:] = np.inf
  scores = crps(junk_pred, junk_truth, mask)
  assert np.isnan(scores[:, 4:]).all()
  np.testing.assert_array_equal(
    scores[:, :4], crps(pred[..., :4], truth[:, :4])
  )
  np.testing.assert_allclose(
    energy_score(junk_pred, junk_truth, mask),
    energy_score(pred[..., :4], truth[:, :4]),
    rtol=1e-14,
  )
  np.testing.assert_allclose(
    spread_skill(junk_pred, junk_truth, 3, mask)[:2],
    spread_skill(pred[..., :4], truth[:, :4], 2),
    rtol=1e-14,
  )
  np.testing.assert_array_equal(
    rank_histogram(junk_pred, junk_truth, 3, mask)[:2],
    rank_histogram(pred[..., :4], truth[:, :4], 2),
  )
  mask[2] = False
  assert np.isnan(energy_score(junk_pred, junk_truth, mask)[2])


def test_energy_score_by_lead_scores_each_frame_alone():
  pred, truth = _ensemble(3, 4, 6, seed=5)
  by_lead = energy_score_by_lead(pred, truth, num_frames=3)
  expected = energy_score(pred[..., 2:4], truth[:, 2:4])
  np.testing.assert_array_equal(by_lead[:, 1], expected)


def test_matrix_averages_over_outcomes():
  pred, _ = _ensemble(3, 4, 5, seed=6)
  futures, _ = _ensemble(3, 7, 5, seed=7)
  each = [energy_score(pred, futures[:, f]) for f in range(7)]
  np.testing.assert_allclose(
    energy_score_matrix(pred, futures), np.mean(each, axis=0), rtol=1e-12
  )


@pytest.mark.parametrize("number", [3, 6])
def test_true_sampler_is_the_leave_one_out_score(number):
  futures, _ = _ensemble(4, number, 5, seed=8)
  each = [
    energy_score(np.delete(futures, f, axis=1), futures[:, f])
    for f in range(number)
  ]
  np.testing.assert_allclose(
    true_sampler_energy_score(futures), np.mean(each, axis=0), rtol=1e-12
  )


def test_true_sampler_is_the_floor():
  futures, _ = _ensemble(4000, 8, 5, seed=9)
  good, _ = _ensemble(4000, 4, 5, seed=10)
  floor = true_sampler_energy_score(futures).mean()
  assert energy_score_matrix(good, futures).mean() == pytest.approx(
    floor, rel=0.01
  )
  for wrong in (0.5 * good, 1.7 * good, good + 0.5):
    assert energy_score_matrix(wrong, futures).mean() > 1.02 * floor
  with pytest.raises(ValueError, match="2 or more"):
    true_sampler_energy_score(futures[:, :1])


@pytest.mark.parametrize("members", [2, 10])
def test_spread_skill_is_one_for_a_calibrated_ensemble(members):
  rng = np.random.default_rng(11)
  mean = rng.normal(size=(4000, 1, 8))
  # The later frame is three times as uncertain as the first.
  scale = np.repeat([1.0, 3.0], 4)
  draws = mean + scale * rng.normal(size=(4000, members + 1, 8))
  ratio = spread_skill(draws[:, 1:], draws[:, 0], num_frames=2)
  np.testing.assert_allclose(ratio, 1.0, atol=0.03)
  narrow = mean + 0.5 * (draws[:, 1:] - mean)
  ratio = spread_skill(narrow, draws[:, 0], num_frames=2)
  assert (ratio < 0.75).all()


def test_spread_skill_by_hand():
  pred = np.array([[[0.0, 1.0], [2.0, 1.0]]])
  truth = np.array([[4.0, 2.0]])
  # Frame 1: variance 2, times 3/2, over an error of 3^2. Frame 2: no spread.
  expected = [np.sqrt(3.0 / 9.0), 0.0]
  np.testing.assert_allclose(spread_skill(pred, truth, 2), expected)
  spread, error = spread_skill_terms(pred, truth, 2)
  np.testing.assert_allclose(spread, [[3.0, 0.0]])
  np.testing.assert_allclose(error, [[9.0, 1.0]])


def test_spread_skill_of_one_member_is_nan():
  pred, truth = _ensemble(3, 1, 4, seed=12)
  assert np.isnan(spread_skill(pred, truth, 2)).all()


def test_rank_histogram_by_hand():
  pred = np.array([[[1.0], [3.0]]] * 4)
  truth = np.array([[0.0], [2.0], [9.0], [3.0]])
  # The last ties with the upper member: half a count for each of its ranks.
  expected = np.array([[1.0, 1.5, 1.5]]) / 4
  np.testing.assert_allclose(rank_histogram(pred, truth), expected)
  np.testing.assert_allclose(rank_deviation(expected), [1 / 12])


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
