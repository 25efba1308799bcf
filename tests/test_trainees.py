"""What a run trains: how readouts see their latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting import trainees
from forecasting.config import base_config

SLOTS, SIDE, CHANNELS, CLIPS = 2, 2, 64, 4


def _trainee(noise):
  config = base_config()
  config.data.update(size=16, num_frames=4)
  config.readout.update(width=32, query_hidden=16, noise=noise)
  head = trainees.make_head("pixels", config.readout, config.data, (SIDE, SIDE))
  return trainees.readout_trainee(
    "pixels", head, config.readout, SIDE * SIDE, CHANNELS
  )


def _batch(rows):
  rng = np.random.default_rng(0)
  shape = (CLIPS, SLOTS, SIDE, SIDE, CHANNELS)
  clips = rng.standard_normal(shape, np.float32)
  videos = rng.integers(0, 256, (CLIPS, 4, 16, 16, 3), np.uint8)
  return {
    "clip": clips[rows],
    "video": videos[rows],
    "example_id": np.arange(CLIPS, dtype=np.uint32)[rows],
  }


def _loss(noise, rows, key=0):
  trainee = _trainee(noise)
  params = trainee.init(jax.random.key(7))
  # The last layer starts small: make the latents matter.
  params = jax.tree.map(lambda x: 5 * x, params)
  loss = jax.jit(trainee.loss)
  return float(loss(params, _batch(rows), jax.random.key(key))[0])


def test_noise_of_an_example_is_its_own():
  alone = [_loss(1.0, [row]) for row in range(CLIPS)]
  assert _loss(1.0, [2, 0, 3, 1]) == pytest.approx(np.mean(alone), rel=1e-5)
  assert _loss(1.0, [0]) != pytest.approx(_loss(1.0, [0], key=1), rel=1e-4)
  assert _loss(0.0, [0]) == _loss(0.0, [0], key=1)
  assert _loss(0.0, [0]) != pytest.approx(_loss(1.0, [0]), rel=1e-4)


def test_noise_has_a_half_normal_deviation():
  ids = jnp.arange(2000)
  zeros = jnp.zeros((2000, 1, 1, 1, 100))
  noise = trainees._noised(zeros, ids, jax.random.key(0), 0.8)
  deviations = np.asarray(noise).reshape(2000, 100).std(1)
  # The mean of |N(0, s^2)| is s sqrt(2 / pi).
  assert deviations.mean() == pytest.approx(0.8 * (2 / np.pi) ** 0.5, rel=0.05)
  assert (deviations**2).mean() == pytest.approx(0.8**2, rel=0.1)
