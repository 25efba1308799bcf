"""Encoding of clips longer than the backbone's."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.latents.encoding import encode_clips


class Toy:
  """Two frames a slot; every slot holds the sum of all frames it is given."""

  spec = types.SimpleNamespace(resolution=4, num_frames=8, stochastic=False)
  params, weights_digest, num_blocks = {}, "toy", 1
  context_mode = "crop_pos"

  def encode_leaky(self, params, video, num_context):
    raise NotImplementedError

  def encode(self, params, video):
    assert video.shape[1] <= 8
    slots = video.reshape(len(video), -1, 2, 4, 4, 3).mean(2)
    return jnp.concatenate(
      [slots, jnp.broadcast_to(video.sum(1, keepdims=True), slots.shape)], -1
    )

  def encode_context(self, params, video):
    return self.encode(params, video)


def _video(frames):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (2, frames, 4, 4, 3), dtype=np.uint8)


def test_each_window_sees_its_own_frames_and_adds_its_future():
  video = _video(16)
  context, clip = encode_clips(Toy(), 4, {}, video)
  assert clip.shape[1] == 8
  frames = np.float32(video) / 255
  windows = [frames[:, start : start + 8] for start in (0, 4, 8)]
  encoded = [np.asarray(Toy().encode({}, jnp.asarray(w))) for w in windows]
  expected = [encoded[0], encoded[1][:, 2:], encoded[2][:, 2:]]
  np.testing.assert_allclose(clip, np.concatenate(expected, 1), rtol=1e-6)
  alone = Toy().encode({}, jnp.asarray(frames[:, :4]))
  np.testing.assert_allclose(context, alone, rtol=1e-6)


def test_a_clip_of_one_window_is_encoded_whole():
  _, clip = encode_clips(Toy(), 4, {}, _video(8))
  whole = Toy().encode({}, jnp.float32(_video(8)) / 255)
  np.testing.assert_allclose(clip, whole, rtol=1e-6)


def test_part_of_a_window_is_refused():
  with pytest.raises(ValueError, match="horizon_frames"):
    encode_clips(Toy(), 4, {}, _video(14))
