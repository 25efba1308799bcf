"""Every rule against loops over its definition, or another library."""

import jax
import numpy as np
import pytest
import scipy.ndimage

from forecasting.backbones.resampling import (
  aligned_linear,
  resample,
  torch_bicubic,
  torch_bicubic_antialiased,
)


def keys(x, a):
  x = abs(x)
  if x <= 1:
    return (a + 2) * x**3 - (a + 3) * x**2 + 1
  return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def four_taps(signal, num_out, scale):
  """Four taps around each position, clamped to the border."""
  out = []
  for i in range(num_out):
    x = (i + 0.5) / scale - 0.5
    low = int(np.floor(x))
    out.append(
      sum(
        keys(x - j, -0.75) * signal[min(max(j, 0), len(signal) - 1)]
        for j in range(low - 1, low + 3)
      )
    )
  return np.array(out)


@pytest.mark.parametrize(
  ("num_in", "num_out", "offset"), [(9, 6, 0.1), (37, 16, 0.1), (4, 9, 0.0)]
)
def test_bicubic_takes_four_clamped_taps(num_in, num_out, offset):
  signal = np.random.default_rng(0).normal(size=num_in)
  scale = (num_out + offset) / num_in
  ours = torch_bicubic(num_in, num_out, scale if offset else None) @ signal
  np.testing.assert_allclose(ours, four_taps(signal, num_out, scale), atol=1e-9)
  # The offset matters, and so does what happens where the table shrinks.
  if offset:
    assert abs(ours - torch_bicubic(num_in, num_out) @ signal).max() > 1e-3
    smooth = torch_bicubic_antialiased(num_in, num_out) @ signal
    assert abs(ours - smooth).max() > 0.1


@pytest.mark.parametrize("sizes", [(37, 16), (5, 11), (8, 8), (9, 2)])
def test_antialiased_bicubic_is_that_of_jax(sizes):
  signal = np.random.default_rng(0).normal(size=sizes[0]).astype(np.float32)
  expected = jax.image.resize(signal, sizes[1:], "cubic", antialias=True)
  ours = torch_bicubic_antialiased(*sizes) @ signal
  np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("sizes", [(16, 24), (27, 16), (4, 4)])
def test_aligned_linear_is_the_zoom_of_scipy(sizes):
  signal = np.random.default_rng(0).normal(size=sizes[0])
  expected = scipy.ndimage.zoom(signal, sizes[1] / sizes[0], order=1)
  ours = aligned_linear(*sizes) @ signal
  np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_same_size_changes_nothing():
  for rule in (torch_bicubic, torch_bicubic_antialiased, aligned_linear):
    np.testing.assert_allclose(rule(7, 7), np.eye(7), atol=1e-12)


def test_resample_applies_one_rule_to_each_axis():
  table = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
  rows, columns = np.array([[0.0, 2.0]]), np.eye(3)[::-1]
  out = resample(table, rows, columns)
  np.testing.assert_array_equal(out, 2 * table[1:, ::-1])
