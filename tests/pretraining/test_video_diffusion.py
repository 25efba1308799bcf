"""W.A.L.T.: tokenizer and denoiser learn; given slots are no target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones.encode import parameter_shapes
from forecasting.backbones.zoo import get_spec
from forecasting.frames.scenes import captions
from forecasting.pretraining.video_diffusion import VideoDiffusion
from forecasting.pretraining.video_tokenizer import VideoTokenizer

CFG = {
  "name": "video_diffusion",
  "tokenizer": None,
  "self_conditioning": 0.5,
  "past_probability": 0.5,
  "null_probability": 0.1,
}


@pytest.fixture(scope="module")
def spec(small_spec):
  sizes = get_spec("walt_tiny").sizes
  sizes |= {
    "tokenizer": sizes["tokenizer"] | {"width": 4, "groups": 2},
    "tube": (2, 2),
  }
  return small_spec("walt_tiny", patch=8, resolution=32, sizes=sizes)


def test_exported_parameters_are_the_backbones(spec):
  task = VideoDiffusion(spec, CFG)
  params = jax.eval_shape(task.init, jax.random.key(0))
  assert set(params["encoder"]) == {"denoiser", "null_text"}
  exported = jax.tree.map(lambda x: x.shape, task.encoder(params))
  expected = jax.tree.map(lambda x: x.shape, dict(parameter_shapes(spec)))
  assert exported == expected


def test_draws(spec):
  task = VideoDiffusion(spec, CFG)
  keys = jax.random.split(jax.random.key(0), 400)
  level, noise, is_past, is_null = jax.vmap(
    lambda key: task._draw(key, (3, 4, 4, 8))
  )(keys)
  assert int(level.min()) < 30 and int(level.max()) > 970
  count = np.asarray(is_past).sum(1)
  assert set(count) == {0, 1, 2} and 0.4 < (count > 0).mean() < 0.6
  assert (np.diff(np.asarray(is_past).astype(int), axis=1) <= 0).all()
  assert 0.05 < np.asarray(is_null).mean() < 0.16
  assert abs(float(noise.mean())) < 0.02


@pytest.mark.slow
def test_tokenizer_learns_pixels_and_moments(spec, make_video, train):
  cfg = {"width": 16, "depth": 1, "moments_weight": 0.1, "flip": False}
  video = make_video(2, size=32)
  video[:] = video.mean((2, 3), keepdims=True).astype(np.uint8)  # flat frames
  history, _ = train(VideoTokenizer(spec, cfg), {"video": video}, 60, 1e-2)
  assert history[-1]["pixels"] < 0.5 * history[0]["pixels"]
  assert history[-1]["moments"] < 0.5 * history[0]["moments"]


@pytest.mark.slow
def test_denoiser_learns_and_ignores_what_is_given(spec, make_video, train):
  batch = {
    "video": make_video(4, size=32),
    "text": np.tile(captions.words("two bodies: a red ball"), (4, 1)),
  }
  task = VideoDiffusion(spec, CFG)
  history, params = train(task, batch, 60)
  assert history[-1]["loss"] < 0.8 * history[0]["loss"]

  # The clean latents of slots that are not given never reach the denoiser.
  shape = (1, 3, 4, 4, 8)
  noisy, past = jnp.ones(shape), jnp.ones(shape)
  is_past = jnp.array([[True, False, False]])

  @jax.jit
  def influence(past):
    def total(past):
      text = params["encoder"]["null_text"][None]
      level = jnp.array([500])
      zeros = jnp.zeros(shape)
      out = task.velocity(params, noisy, level, text, zeros, past, is_past)
      return jnp.square(out).sum()

    return jnp.abs(jax.grad(total)(past)).max((0, 2, 3, 4))

  seen = influence(past)
  assert seen[0] > 0 and seen[1] == seen[2] == 0
