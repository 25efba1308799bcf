import math

import numpy as np
import pytest

from forecasting.metrics.psnr import frame_psnr, psnr


def _video(seed, *shape):
  return np.random.default_rng(seed).random(shape).astype(np.float32)


def test_hand_computed_value():
  target = np.full((1, 2, 4, 4, 3), 0.5, np.float32)
  pred = target[:, None] + np.array([0.1, 0.01]).reshape(1, 1, 2, 1, 1, 1)
  # Squared errors 1e-2 and 1e-4: 20 and 40 dB, and their mean, not the 22.97 dB
  # of the pooled error.
  np.testing.assert_allclose(frame_psnr(pred, target)[0, 0], [20, 40])
  np.testing.assert_allclose(psnr(pred, target), [[30]])


def test_matches_plain_loops():
  pred, target = (
    _video(0, 2, 3, 2, 4, 5, 3) * 1.5 - 0.2,
    _video(1, 2, 2, 4, 5, 3),
  )
  values = psnr(pred, target)
  for b in range(2):
    for s in range(3):
      decibels = []
      for f in range(2):
        errors = [
          (min(max(float(p), 0.0), 1.0) - float(t)) ** 2
          for p, t in zip(pred[b, s, f].ravel(), target[b, f].ravel())
        ]
        decibels.append(-10 * math.log10(sum(errors) / len(errors)))
      assert values[b, s] == pytest.approx(sum(decibels) / 2, rel=1e-12)


def test_perfect_frames_are_capped_at_100_decibels():
  target = _video(2, 1, 3, 4, 4, 3)
  assert psnr(target[:, None], target)[0, 0] == 100.0


def test_predictions_are_clipped():
  target = np.ones((1, 1, 2, 2, 3), np.float32)
  assert psnr(target[:, None] * 7.0, target)[0, 0] == 100.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_makes_only_its_sample_nan(bad):
  pred, target = _video(3, 2, 2, 3, 4, 4, 3), _video(4, 2, 3, 4, 4, 3)
  clean = psnr(pred, target)
  pred[1, 0, 2, 1, 1, 0] = bad
  values = psnr(pred, target)
  assert np.isnan(values[1, 0])
  values[1, 0] = clean[1, 0]
  np.testing.assert_array_equal(values, clean)


def test_batch_and_order_of_samples_do_not_matter():
  pred, target = _video(5, 3, 4, 2, 4, 4, 3), _video(6, 3, 2, 4, 4, 3)
  values = psnr(pred, target)
  alone = [psnr(pred[i : i + 1], target[i : i + 1])[0] for i in range(3)]
  np.testing.assert_array_equal(values, alone)
  np.testing.assert_array_equal(psnr(pred[:, ::-1], target), values[:, ::-1])
