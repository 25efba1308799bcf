"""What must hold for every family: no leak, whole grids, honest specs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones import encode
from forecasting.backbones.zoo import FAMILIES, SPECS
from forecasting.latents.encoding import encode_clips

NUM_CONTEXT = 4
TINY = sorted(name for name in SPECS if name.endswith("_tiny"))
# Frames do not see each other, or only earlier ones.
BLIND_TO_THE_FUTURE = {"dinov2", "siglip", "next_vid", "raw"}


@functools.cache
def load(name):
  """Returns a backbone with drawn weights, and its compiled encoding."""
  spec, rng = SPECS[name], np.random.default_rng(1)
  # Drawn by NumPy: compiling the initializers takes longer than encoding.
  params = jax.tree.map(
    lambda x: rng.normal(
      scale=max(x.shape[:-1], default=25) ** -0.5, size=x.shape
    ).astype(np.float32),
    encode.parameter_shapes(spec),
  )
  blocks = encode.num_blocks(spec, "default")
  backbone = encode.Backbone(spec, params, "", blocks, spec.context_mode)
  run = jax.jit(functools.partial(encode_clips, backbone, NUM_CONTEXT))
  ids = jnp.arange(2, dtype=jnp.uint32)
  return spec, lambda video: map(np.asarray, run(params, video, ids))


def clips(spec, seed=0):
  shape = (2, spec.num_frames, *spec.frame_size, 3)
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, shape, dtype=np.uint8)


def by_depth():
  """Returns all names, those slow that take seconds to trace.

  These are the deep ones, but for the shallowest published one of a family.
  """
  published = sorted(
    set(SPECS) - set(TINY), key=lambda name: (SPECS[name].depth, name)
  )
  shallowest = {SPECS[name].family: name for name in reversed(published)}
  quick = {*TINY, *shallowest.values()}
  return [
    pytest.param(name, marks=() if name in quick else pytest.mark.slow)
    for name in sorted(SPECS)
  ]


def test_every_family_has_a_tiny_one():
  assert {SPECS[name].family for name in TINY} == set(FAMILIES)


@pytest.mark.parametrize("name", TINY)
def test_context_never_sees_the_future(name):
  spec, run = load(name)
  video = clips(spec)
  other = video.copy()
  other[:, NUM_CONTEXT:] ^= 0xFF
  context, clip = run(video)
  other_context, other_clip = run(other)
  np.testing.assert_array_equal(context, other_context)
  assert np.abs(clip - other_clip).max() > 1e-2


@pytest.mark.parametrize("name", TINY)
def test_latents_fill_the_grid_and_follow_the_frames(name):
  spec, run = load(name)
  context, clip = run(clips(spec))
  assert clip.shape == (2, *spec.grid, spec.width)
  assert context.shape == (2, NUM_CONTEXT // spec.tubelet, *clip.shape[2:])
  assert np.isfinite(clip).all()
  np.testing.assert_allclose(clip.mean(-1), 0, atol=1e-4)
  assert np.abs(clip[0] - clip[1]).max() > 1e-2
  slots = context.shape[1]
  same = np.allclose(context, clip[:, :slots], atol=1e-3)
  assert same == (spec.family in BLIND_TO_THE_FUTURE)


@pytest.mark.parametrize("name", by_depth())
def test_shapes_of_every_backbone(name):
  spec = SPECS[name]
  network = encode.build_network(spec)
  video = jax.ShapeDtypeStruct(
    (1, NUM_CONTEXT, *spec.frame_size, 3), jnp.float32
  )
  blocks = encode.num_blocks(spec, "default")
  params = encode.parameter_shapes(spec)
  latents = jax.eval_shape(
    lambda p, v: network.apply(
      {"params": p}, v, blocks, None, method="latents"
    ),
    params,
    video,
  )
  slots, rows, columns = spec.grid
  assert latents.shape == (
    1,
    slots * NUM_CONTEXT // spec.num_frames,
    rows,
    columns,
    spec.width,
  )


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_spec_says_where_its_weights_come_from(name):
  spec = SPECS[name]
  assert spec.source
  low, high = spec.value_range
  assert low < high
  if name.endswith("_tiny"):
    return
  if spec.checkpoint:
    assert spec.license
    assert spec.download
  else:
    assert SPECS[spec.substitute].checkpoint
