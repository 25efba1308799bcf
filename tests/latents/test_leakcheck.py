"""The leak check passes sound context modes and fails the leaky one."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Float
from toy_encoder import ToyEncoder

from forecasting.backbones import encode, zoo
from forecasting.latents import leakcheck
from forecasting.shapes import Array

NUM_CONTEXT = 4


class Toy(ToyEncoder):
  """Every latent slot is mixed with every other slot of its own run."""

  def encode(
    self, params: Any, video: Float[Array, "B T H W 3"]
  ) -> Float[Array, "B t h w C"]:
    slots = (video * params["w"])[:, ::2, ::2, ::2]
    return slots + 0.01 * jnp.sin(video).mean(1, keepdims=True)[:, :, ::2, ::2]

  def encode_context(
    self, params: Any, video: Float[Array, "B Tc H W 3"]
  ) -> Float[Array, "B tc h w C"]:
    assert video.shape[1] == NUM_CONTEXT
    if self.context_mode == "pad_last":
      video = jnp.concatenate([video, *[video[:, -1:]] * 4], axis=1)
    return self.encode(params, video)[:, :2]

  def encode_leaky(
    self, params: Any, video: Float[Array, "B T H W 3"], num_context: int
  ) -> Float[Array, "B tc h w C"]:
    return self.encode(params, video)[:, : num_context // 2]


def random_video(size, num_frames):
  rng = np.random.default_rng(0)
  shape = (2, num_frames, size, size, 3)
  return rng.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("mode", ["crop_pos", "pad_last"])
def test_toy_passes_in_the_legal_modes(mode):
  assert leakcheck.check(Toy(mode), random_video(4, 8), NUM_CONTEXT) == 0


def test_toy_fails_in_the_leaky_mode():
  video = random_video(4, 8)
  assert leakcheck.check(Toy("leaky_full_clip"), video, NUM_CONTEXT) > 1e-4


def test_a_check_that_cannot_fail_is_an_error():
  class Blind(Toy):
    def encode(self, params, video):
      return 0 * video

  blank = Blind("crop_pos")
  with pytest.raises(leakcheck.LeakCheckError, match="weights ignore"):
    leakcheck.check(blank, random_video(4, 8), NUM_CONTEXT)


@pytest.fixture(scope="module")
def encoder():
  """The real network at the size of a test."""
  spec = dataclasses.replace(
    zoo.get_spec("4ds_tiny"),
    resolution=16,
    num_frames=8,
    width=16,
    depth=1,
    mlp_dim=32,
    layer="final",
  )
  return encode.load_spec(spec, random_init=True)


@pytest.mark.parametrize("mode", encode.CONTEXT_MODES)
def test_the_encoder_itself(encoder, mode):
  """Frames are resized on the way, which must not mix them either."""
  backbone = dataclasses.replace(encoder, context_mode=mode)
  difference = leakcheck.check(backbone, random_video(12, 8), NUM_CONTEXT)
  assert (difference > 0) == (mode == "leaky_full_clip")
