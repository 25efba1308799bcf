"""Encoding: leaks, normalization, layers, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from forecasting.backbones import encode
from forecasting.backbones.zoo import get_spec

NUM_CONTEXT = 4


def make_clips(seed, batch=2):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.random((batch, 16, 16, 16, 3), np.float32))


def in_mode(backbone, mode):
  return dataclasses.replace(backbone, context_mode=mode)


def kernels(params):
  flat = flatten_dict(params, sep="/")
  return [np.asarray(x) for n, x in flat.items() if n.endswith("kernel")]


@pytest.fixture(scope="module")
def clips():
  """Clips, and the same with another future."""
  clips = make_clips(0)
  return clips, clips.at[:, NUM_CONTEXT:].set(make_clips(1)[:, NUM_CONTEXT:])


@pytest.mark.parametrize("mode", ["crop_pos", "pad_last"])
def test_context_never_sees_the_future(toy, clips, mode):
  backbone = in_mode(toy, mode)
  run = jax.jit(
    lambda params, video: backbone.encode_context(
      params, video[:, :NUM_CONTEXT]
    )
  )
  first, second = (np.asarray(run(toy.params, video)) for video in clips)
  assert first.shape == (2, 2, 2, 2, 24)
  np.testing.assert_array_equal(first, second)


def test_leaky_context_sees_the_future(toy, clips):
  backbone = in_mode(toy, "leaky_full_clip")
  run = jax.jit(lambda p, v: backbone.encode_leaky(p, v, NUM_CONTEXT))
  first, second = (np.asarray(run(toy.params, video)) for video in clips)
  assert first.shape == (2, 2, 2, 2, 24)
  assert np.abs(first - second).max() > 1e-3
  with pytest.raises(ValueError, match="encode_leaky"):
    backbone.encode_context(toy.params, clips[0][:, :NUM_CONTEXT])


def test_modes_are_what_they_say(toy, clips):
  context = clips[0][:, :NUM_CONTEXT]
  crop, pad = (
    jax.jit(in_mode(toy, mode).encode_context)(toy.params, context)
    for mode in ("crop_pos", "pad_last")
  )
  padded = jnp.concatenate([context, *[context[:, -1:]] * 12], axis=1)
  whole = jax.jit(toy.encode)(toy.params, padded)
  np.testing.assert_allclose(pad, whole[:, :2], atol=1e-5)
  assert np.abs(np.asarray(crop) - np.asarray(pad)).max() > 1e-3


def test_latents_are_normalized_by_token(toy, clips):
  latents = np.asarray(jax.jit(toy.encode)(toy.params, clips[0]))
  raw = jax.jit(toy.raw_latents)(toy.params, clips[0])
  raw = np.asarray(raw, np.float64)
  expected = (raw - raw.mean(-1, keepdims=True)) / np.sqrt(
    raw.var(-1, keepdims=True) + 1e-6
  )
  plain = dataclasses.replace(toy, layernorm=False)
  same = jax.jit(plain.encode)(plain.params, clips[0])
  np.testing.assert_array_equal(same, raw.astype(np.float32))
  assert latents.shape == (2, 8, 2, 2, 24)
  np.testing.assert_allclose(latents, expected, atol=1e-4)


def test_batch_size_does_not_matter(toy, clips):
  encode_clips = jax.jit(toy.encode)
  both = np.asarray(encode_clips(toy.params, clips[0]))
  alone = np.asarray(encode_clips(toy.params, clips[0][1:]))
  np.testing.assert_allclose(both[1:], alone, atol=1e-4)


def test_mean_and_std_are_applied(toy, clips):
  spec = dataclasses.replace(
    toy.spec, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
  )
  scaled = dataclasses.replace(toy, spec=spec, num_blocks=1)
  plain = dataclasses.replace(toy, num_blocks=1)
  video = clips[0][:, :2]
  by_hand = (video - jnp.array(spec.mean)) / jnp.array(spec.std)
  np.testing.assert_allclose(
    jax.jit(scaled.encode)(toy.params, video),
    jax.jit(plain.encode)(toy.params, by_hand),
    atol=1e-4,
  )


def test_layers():
  spec = get_spec("4ds_tiny")
  assert encode.num_blocks(spec, "default") == 6
  assert encode.num_blocks(spec, "final") == 8
  assert encode.num_blocks(spec, "0.5") == 2
  for layer in ("last", "0", "1.5", "nan"):
    with pytest.raises(ValueError, match=r"backbone\.layer"):
      encode.num_blocks(spec, layer)


@pytest.mark.parametrize(
  "shape", [(1, 16, 8, 16, 3), (1, 3, 16, 16, 3), (1, 18, 16, 16, 3)]
)
def test_frames_that_do_not_fit_are_refused(toy, shape):
  with pytest.raises(ValueError, match="toy takes frames of 16 x 16"):
    toy.encode(toy.params, jnp.zeros(shape))


def test_random_weights_follow_the_seed(toy):
  backbones = [
    encode.load_spec(toy.spec, random_init=True, seed=s) for s in (3, 3, 4)
  ]
  same, again, other = (kernels(b.params) for b in backbones)
  for a, b, c in zip(same, again, other, strict=True):
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0
  assert [b.weights_digest for b in backbones[1:]] == ["random-3", "random-4"]


def test_unknown_context_mode_is_refused():
  with pytest.raises(ValueError, match=r"backbone\.context_mode"):
    encode.load_backbone("4ds_tiny", random_init=True, context_mode="crop")


@pytest.mark.parametrize(
  ("name", "what"),
  [("4ds_e", "14 GB.*CC-BY-4.0"), ("4ds_h", "none were ever.*take 4ds_e")],
)
def test_missing_weights_say_where_to_get_them(name, what):
  with pytest.raises(FileNotFoundError, match=what):
    encode.load_backbone(name)


def test_shipped_weights_load_and_are_not_random():
  shipped = encode.load_backbone("4ds_tiny")
  random = encode.load_backbone("4ds_tiny", random_init=True)
  assert len(shipped.weights_digest) == 64
  assert random.weights_digest == "random-0"
  for ours, drawn in zip(
    kernels(shipped.params), kernels(random.params), strict=True
  ):
    assert ours.dtype == np.float32
    assert np.abs(ours - drawn).max() > 0.01
