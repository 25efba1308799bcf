import numpy as np
import pytest

from forecasting.metrics.variance import var_gauss, var_time


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
