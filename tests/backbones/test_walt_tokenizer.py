"""The tokenizer: what sees what, strides, and the convolutions themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones.walt_tokenizer import (
  CausalConv,
  FrameNorm,
  Tokenizer,
  TokenizerConfig,
  _convolve_frames,
  _convolve_volume,
)

SMALL = {
  "width": 4,
  "multipliers": (1, 1, 2),
  "channels": 3,
  "num_blocks": 1,
  "halves_time": (True, True),
  "groups": 2,
}


def params_of(network, *args):
  """Random parameters without zeros or ones."""
  shapes = jax.eval_shape(network.init, jax.random.key(0), *args)["params"]
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: (
      rng.normal(size=leaf.shape).astype(np.float32)
      / max(1, np.prod(leaf.shape[:-1])) ** 0.5
    ),
    shapes,
  )


@pytest.mark.parametrize(
  ("downsample", "time_padding"), [("conv", "zeros"), ("pool", "repeat")]
)
def test_latent_sees_frames_up_to_four_times_its_index(
  downsample, time_padding
):
  network = Tokenizer(
    TokenizerConfig(**SMALL, downsample=downsample, time_padding=time_padding)
  )
  video = np.random.default_rng(1).random((1, 9, 8, 8, 3), np.float32)
  params = params_of(network, video)
  encode = jax.jit(lambda clip: network.apply({"params": params}, clip))
  latents = np.asarray(encode(video))
  assert latents.shape == (1, 3, 2, 2, 3)
  for frame in range(9):
    changed = video.copy()
    changed[:, frame] += 1.0
    moved = np.abs(encode(changed) - latents).max(axis=(0, 2, 3, 4))
    # Bit-equal before, and really different from the first latent that may
    # see the frame.
    first = -(-frame // 4)
    assert not moved[:first].any(), frame
    assert moved[first] > 1e-3, frame


@pytest.mark.parametrize("strides", [(1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("padding", ["zeros", "repeat"])
def test_convolution_is_causal_and_right(strides, padding):
  config = TokenizerConfig(**SMALL, time_padding=padding)
  network = CausalConv(2, config, strides, use_bias=True)
  video = np.random.default_rng(3).normal(size=(1, 5, 4, 4, 3))
  video = video.astype(np.float32)
  params = params_of(network, video)
  result = network.apply({"params": params}, video)
  time, space = strides
  before = video[:, :1] if padding == "repeat" else np.zeros_like(video[:, :1])
  padded = np.concatenate([before, before, video], axis=1)[0]
  low = (3 - space) // 2
  padded = np.pad(padded, ((0, 0), (low, 1), (low, 1), (0, 0)))
  expected = np.zeros(result.shape[1:])
  for t, y, x in np.ndindex(expected.shape[:3]):
    cut = padded[
      t * time : t * time + 3,
      y * space : y * space + 3,
      x * space : x * space + 3,
    ]
    expected[t, y, x] = np.tensordot(cut, params["kernel"], 4) + params["bias"]
  np.testing.assert_allclose(result[0], expected, atol=1e-5)


def test_both_ways_to_convolve_agree():
  rng = np.random.default_rng(4)
  video = rng.normal(size=(2, 7, 6, 6, 3)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 3, 3, 2)).astype(np.float32)
  for strides in ((1, 1), (2, 2)):
    volume = _convolve_volume(video, kernel, strides)
    frames = _convolve_frames(video, kernel, strides)
    np.testing.assert_allclose(volume, frames, atol=1e-4)


def test_norm_is_of_each_frame_and_group():
  config = TokenizerConfig(**SMALL)
  video = np.random.default_rng(5).normal(3.0, 2.0, size=(1, 2, 3, 3, 4))
  video = video.astype(np.float32)
  network = FrameNorm(config)
  params = params_of(network, video)
  result = network.apply({"params": params}, video)
  groups = video.reshape(1, 2, 3, 3, 2, 2).astype(np.float64)
  centered = groups - groups.mean((2, 3, 5), keepdims=True)
  scale = np.sqrt((centered**2).mean((2, 3, 5), keepdims=True) + 1e-6)
  normed = (centered / scale).reshape(video.shape)
  normed = normed * params["norm"]["scale"] + params["norm"]["bias"]
  expected = normed / (1.0 + np.exp(-normed))
  np.testing.assert_allclose(result, expected, atol=1e-5)


def test_wrong_choices_are_named():
  with pytest.raises(ValueError, match=r"downsample is 'blur'.*conv, pool"):
    TokenizerConfig(downsample="blur")
  with pytest.raises(ValueError, match="halves_time has 1 steps; expected 3"):
    TokenizerConfig(halves_time=(True,))


def test_full_size_stride():
  network = Tokenizer(TokenizerConfig())
  video = jax.ShapeDtypeStruct((1, 17, 128, 128, 3), jnp.float32)
  out, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), video)
  assert out.shape == (1, 5, 16, 16, 8)
