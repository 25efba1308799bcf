import numpy as np
import pytest

from forecasting.metrics.variance import by_member, var_gauss, var_time


def test_variance_over_frames_by_hand():
  # Two coordinates over two frames: variances 1 and 4; then 0 and 9.
  rows = np.array([[0.0, 0.0, 2.0, 4.0], [5.0, 1.0, 5.0, 7.0]])
  assert var_time(rows, num_frames=2) == (1 + 4 + 0 + 9) / 4


def test_variance_over_frames_accepts_samples():
  rows = np.random.default_rng(0).normal(size=(5, 3, 24))
  flat = rows.reshape(15, 24)
  assert var_time(rows, 12) == pytest.approx(var_time(flat, 12), rel=1e-14)


def test_gaussian_variance_is_the_mean_of_the_covariance_diagonal():
  rows = np.random.default_rng(1).normal(size=(9, 4))
  expected = np.trace(np.cov(rows, rowvar=False)) / 4
  assert var_gauss(rows) == pytest.approx(expected, rel=1e-13)


def test_the_two_readings_differ():
  static = np.repeat(np.random.default_rng(2).normal(size=(50, 1)), 12, axis=1)
  assert var_time(static, 12) < 1e-30
  assert var_gauss(static) > 0.5


def test_too_few_rows_are_nan():
  assert np.isnan(var_time(np.zeros((0, 12)), 12))
  assert np.isnan(var_gauss(np.zeros((1, 12))))


def test_members_split_the_variance_of_their_samples_by_hand():
  # Members 0 and 1 in turn: means 2 and 7, squares within 2 * 4 and 2 * 1.
  pred = np.array([[[0.0], [6.0], [4.0], [8.0]]])
  between, within = by_member(pred, 2)
  # Mean squares: within (8 + 2) / 2, between 2 * 2 * 2.5^2 = 25 = W + 2 B.
  np.testing.assert_allclose(within, [5.0])
  np.testing.assert_allclose(between, [10.0])


@pytest.mark.parametrize(("samples", "members"), [(10, 4), (6, 2), (4, 3)])
def test_the_split_is_unbiased_for_any_numbers_of_samples(samples, members):
  rng = np.random.default_rng(0)
  means = 2.0 * rng.normal(size=(20000, members, 1))
  noise = rng.normal(size=(20000, samples, 1))
  pred = means[:, np.arange(samples) % members] + noise
  between, within = by_member(pred, members)
  for values, expected in ((between, 4.0), (within, 1.0)):
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 4 * error
  # Members that agree.
  between, _ = by_member(noise, members)
  assert abs(between.mean()) < 4 * between.std() / np.sqrt(len(between))
