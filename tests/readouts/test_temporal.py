"""Slots to frames."""

import numpy as np
import pytest

from forecasting.readouts.temporal import to_frames


def cubic_weight(distance):
  """Keys' kernel with a = -0.5."""
  x = abs(distance)
  if x < 1:
    return 1.5 * x**3 - 2.5 * x**2 + 1
  if x < 2:
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
  return 0.0


@pytest.mark.parametrize("slots", [4, 8])
def test_cubic_along_time_only(slots):
  rng = np.random.default_rng(0)
  latents = rng.normal(size=(2, slots, 2, 3, 4)).astype(np.float32)
  out = to_frames(latents, 16)
  assert out.shape == (2, 16, 6, 4)
  for frame in range(16):
    position = (frame + 0.5) * slots / 16 - 0.5
    weights = [cubic_weight(position - slot) for slot in range(slots)]
    expected = sum(
      w / sum(weights) * latents[:, slot] for slot, w in enumerate(weights)
    )
    np.testing.assert_allclose(
      out[:, frame], expected.reshape(2, 6, 4), atol=1e-5
    )


def test_one_slot_per_frame_keeps_values():
  rng = np.random.default_rng(0)
  latents = rng.normal(size=(1, 5, 2, 2, 3)).astype(np.float32)
  out = to_frames(latents, 5)
  np.testing.assert_array_equal(out, latents.reshape(1, 5, 4, 3))
