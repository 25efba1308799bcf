"""The schedule's numbers."""

import numpy as np
import pytest

from forecasting.backbones.walt_noise import add_noise, signal_amplitudes


@pytest.mark.parametrize(
  ("level", "amplitude"),
  [
    (0, 0.999950),
    (100, 0.945775),
    (200, 0.808939),
    (499, 0.275733),
    (998, 0.000065),
    (999, 0.0),
  ],
)
def test_signal_amplitudes(level, amplitude):
  assert signal_amplitudes().shape == (1000,)
  assert signal_amplitudes()[level] == pytest.approx(amplitude, abs=6e-7)


def test_noise_keeps_unit_variance():
  clean, noise = np.ones(3, np.float32), np.full(3, 2.0, np.float32)
  np.testing.assert_array_equal(add_noise(clean, noise, 999), noise)
  expected = 0.808939 + 2.0 * np.sqrt(1.0 - 0.808939**2)
  np.testing.assert_allclose(add_noise(clean, noise, 200), expected, atol=1e-5)
