import numpy as np
import pytest

from forecasting.metrics.depth import abs_relative_error, valid_depth


def test_hand_computed_value_pools_over_the_clip():
  target = np.array([[1.0, 2.0], [4.0, 0.0]]).reshape(1, 2, 1, 2, 1)
  pred = np.array([[1.5, 2.0], [3.0, 9.0]]).reshape(1, 1, 2, 1, 2, 1)
  # Relative errors 0.5, 0, 0.25; the last pixel is invalid.
  error = abs_relative_error(pred, target)
  np.testing.assert_allclose(error, [[0.25]], rtol=1e-6)
  exact = (0.5 / 1.000001 + 1.0 / 4.000001) / 3
  np.testing.assert_allclose(error, [[exact]], rtol=1e-15)


def test_edges_of_the_valid_range():
  meters = [np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-3, 1.001e-3, 10.0, 10.001]
  expected = [False] * 6 + [True, True, False]
  assert valid_depth(np.array(meters)).tolist() == expected


def test_invalid_pixels_do_not_count_whatever_is_forecast():
  rng = np.random.default_rng(0)
  target = rng.uniform(1, 5, (2, 3, 4, 4, 1))
  target[:, :, :2] = [[np.nan], [np.inf], [0.0], [20.0]]
  pred = rng.uniform(1, 5, (2, 2, 3, 4, 4, 1))
  clean = abs_relative_error(pred, target)
  for junk in (np.nan, np.inf, 1e9):
    pred[:, :, :, :2] = junk
    np.testing.assert_array_equal(abs_relative_error(pred, target), clean)
  assert np.isfinite(clean).all()


def test_clip_without_valid_pixel_has_no_value():
  target = np.ones((2, 1, 2, 2, 1))
  target[0] = 0.0
  values = abs_relative_error(np.ones((2, 3, 1, 2, 2, 1)), target)
  assert np.isnan(values[0]).all()
  np.testing.assert_array_equal(values[1], 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_forecast_at_a_valid_pixel_is_nan(bad):
  pred = np.ones((1, 2, 1, 2, 2, 1))
  pred[0, 1, 0, 0, 0] = bad
  values = abs_relative_error(pred, np.ones((1, 1, 2, 2, 1)))
  np.testing.assert_array_equal(values, [[0.0, np.nan]])


def test_half_precision_depth_is_scored_in_double():
  target = np.full((1, 1, 2, 2, 1), 3.0, np.float16)
  pred = np.full((1, 1, 1, 2, 2, 1), 3.3, np.float32)
  expected = (float(np.float32(3.3)) - 3.0) / 3.000001
  np.testing.assert_allclose(
    abs_relative_error(pred, target), [[expected]], rtol=1e-14
  )
