import statistics

import numpy as np
import pytest

from forecasting.metrics.aggregate import aggregate


def test_matches_the_standard_library():
  values = np.random.default_rng(0).normal(size=(5, 7))
  result = aggregate(values)
  rows = values.tolist()
  expected = {
    "mean": [statistics.fmean(row) for row in rows],
    "std": [statistics.pstdev(row) for row in rows],
    "max": [max(row) for row in rows],
    "min": [min(row) for row in rows],
  }
  for name, per_example in expected.items():
    np.testing.assert_allclose(getattr(result, f"example_{name}"), per_example)
    assert getattr(result, name) == pytest.approx(statistics.fmean(per_example))
  assert result.best(higher_is_better=True) == result.max
  assert result.best(higher_is_better=False) == result.min
  assert (result.num_examples, result.num_nan) == (5, 0)


def test_nan_values_are_left_out_and_counted():
  nan = np.nan
  result = aggregate(
    np.array([[1.0, 3.0, nan], [nan, nan, nan], [5.0, 5.0, 5.0]])
  )
  np.testing.assert_array_equal(result.example_mean, [2, nan, 5])
  np.testing.assert_array_equal(result.example_std, [1, nan, 0])
  np.testing.assert_array_equal(result.example_max, [3, nan, 5])
  np.testing.assert_array_equal(result.example_min, [1, nan, 5])
  assert (result.mean, result.std, result.max, result.min) == (3.5, 0.5, 4, 3)
  assert result.num_examples == 2
  assert result.num_excluded == 1
  assert result.num_partial == 1
  assert result.num_nan == 4


def test_a_forecast_that_is_not_finite_leaves_nothing_to_average():
  values = np.array([[1.0, 3.0], [np.nan, np.nan], [np.nan, np.nan]])
  is_finite = np.array([[True, True], [True, True], [True, False]])
  result = aggregate(values, is_finite)
  assert np.isnan([result.mean, result.std, result.max, result.min]).all()
  assert np.isnan(result.example_mean).all()
  # The second clip has nothing to score, the third a forecast that fails.
  assert (result.num_examples, result.num_excluded) == (2, 1)
  assert (result.num_nan, result.num_nonfinite) == (4, 1)
  # A value made of a forecast that is not finite counts as none.
  result = aggregate(np.ones((1, 2)), np.array([[True, False]]))
  assert (result.num_nan, result.num_nonfinite) == (1, 1)
  assert np.isnan(result.mean)


def test_one_sample_has_mean_equal_to_best():
  result = aggregate(np.array([[2.0], [4.0]]))
  assert (result.mean, result.max, result.min, result.std) == (3, 3, 3, 0)


def test_nothing_to_average_is_nan():
  result = aggregate(np.full((2, 3), np.nan))
  assert np.isnan([result.mean, result.std, result.max, result.min]).all()
  assert result.num_examples == 0
  assert np.isnan(aggregate(np.zeros((0, 3))).mean)


def test_without_samples_is_refused():
  with pytest.raises(ValueError, match="no samples"):
    aggregate(np.zeros((2, 0)))


def test_order_of_samples_does_not_matter():
  values = np.random.default_rng(1).normal(size=(4, 6))
  values[0, 2] = np.nan
  a, b = aggregate(values), aggregate(values[:, ::-1])
  for name in ("mean", "std", "max", "min"):
    assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-14)
