"""Keys and times of forecasts."""

import jax
import numpy as np

from forecasting.samples import draw


def test_a_key_depends_on_the_example_and_not_on_its_batch():
  key = jax.random.key(3)
  ids = np.array([7, 2**32 - 1, 0], np.uint32)
  together = jax.random.key_data(draw.example_keys(key, ids))
  alone = jax.random.key_data(draw.example_keys(key, ids[1:2]))
  np.testing.assert_array_equal(together[1:2], alone)
  assert len(np.unique(together, axis=0)) == 3


def test_a_slots_time_is_the_mean_over_its_frames_from_the_clips_start():
  seconds = np.array([[10.0, 10.1, 10.2, 10.3]], np.float32)
  times = draw.slot_seconds(seconds, 2)
  np.testing.assert_allclose(times, [[0.05, 0.25]], atol=1e-5)


def test_the_future_is_what_follows_the_context_slots():
  clip = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 1, 1, 3)
  batch = {
    "context": -clip[:, :1],
    "clip": clip,
    "seconds": np.tile(np.arange(8, dtype=np.float32), (2, 1)),
  }
  inputs = draw.forecaster_batch(batch, 1, 2)
  np.testing.assert_array_equal(inputs["future"], clip[:, 1:])
  np.testing.assert_array_equal(inputs["context"], -clip[:, :1])
  assert inputs["times"].shape == (2, 4)
  assert inputs["mask"].all()
