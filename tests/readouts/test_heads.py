"""The four heads: shapes, order of outputs, subsets, what they may see."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.readouts import heads, patches, queries

TASKS = ("pixels", "depth", "points", "boxes")
BATCH, FRAMES, CHANNELS = 2, 4, 6
GRID = (2, 2, 2)  # slots, rows, columns
SIZE = (16, 24)


def make(task, **overrides):
  settings = {
    "width": 8,
    "num_heads": 2,
    "num_frames": FRAMES,
    "frame_size": SIZE,
    "query_hidden": 8,
    **overrides,
  }
  return heads.make_head(task, **settings)


def random_params(head, num_tokens=4, channels=CHANNELS):
  rng = np.random.default_rng(5)
  shapes = jax.eval_shape(
    lambda key: heads.init_head(head, key, num_tokens, channels),
    jax.random.key(0),
  )
  return jax.tree.map(
    lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes
  )


def latents(seed=0):
  shape = (BATCH, *GRID, CHANNELS)
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def labels(num=3, seed=1):
  rng = np.random.default_rng(seed)
  return {
    "tracks": rng.uniform(size=(BATCH, FRAMES, num, 2)).astype(np.float32),
    "boxes": rng.uniform(size=(BATCH, FRAMES, num, 4)).astype(np.float32),
  }


def read_out(head, params, *args):
  return jax.jit(lambda params, *args: heads.read_out(head, params, *args))(
    params, *args
  )


def test_size_of_the_official_depth_head():
  head = heads.make_head(
    "depth",
    width=1024,
    num_heads=16,
    num_frames=16,
    frame_size=(224, 224),
  )
  shapes = jax.eval_shape(
    lambda key: heads.init_head(head, key, 196, 768), jax.random.key(0)
  )
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
  assert count == 17_587_840


@pytest.mark.parametrize("num", [1, 3])
def test_output_shapes(num):
  expected = {
    "pixels": {"video": (BATCH, FRAMES, *SIZE, 3)},
    "depth": {"depth": (BATCH, FRAMES, *SIZE, 1)},
    "points": {
      "tracks": (BATCH, FRAMES, num, 2),
      "visible_logit": (BATCH, FRAMES, num),
      "certainty_logit": (BATCH, FRAMES, num),
    },
    "boxes": {"boxes": (BATCH, FRAMES, num, 4)},
  }
  for task in TASKS:
    head = make(task)
    params = random_params(head)
    out = jax.eval_shape(
      lambda head=head, params=params: heads.read_out(
        head, params, latents(), labels(num)
      )
    )
    assert {name: x.shape for name, x in out.items()} == expected[task]
    assert all(x.dtype == jnp.float32 for x in out.values())


@pytest.mark.parametrize("task", ["pixels", "depth"])
def test_query_subset_is_part_of_the_full_result(task):
  head = make(task)
  params = random_params(head)
  (full,) = read_out(head, params, latents()).values()
  index = np.array([7, 0, 11], np.int32)
  assert head.num_queries == 12
  subset = read_out(head, params, latents(), None, index)
  np.testing.assert_array_equal(subset["query_index"], index)
  np.testing.assert_allclose(
    subset["patches"], patches.patchify(full)[:, index], atol=1e-6
  )
  one = read_out(head, params, latents(), None, index[:1])
  np.testing.assert_allclose(
    one["patches"], subset["patches"][:, :1], atol=1e-6
  )


def test_fewer_queries_cost_less():
  head = make("pixels", width=32, frame_size=(64, 64))
  params = random_params(head)

  def operations(index):
    run = jax.jit(lambda p, x: heads.read_out(head, p, x, None, index))
    return run.lower(params, latents()).compile().cost_analysis()["flops"]

  assert operations(np.arange(4)) < operations(None) / 5


@pytest.mark.parametrize("task", TASKS)
def test_chunks_do_not_change_the_result(task):
  whole, chunked = make(task, query_chunk=0), make(task, query_chunk=2)
  params = random_params(whole)
  expected = read_out(whole, params, latents(), labels())
  out = read_out(chunked, params, latents(), labels())
  for name in expected:
    np.testing.assert_allclose(out[name], expected[name], atol=1e-5)


def test_patches_are_put_where_their_query_stands():
  # A result that depends on the query alone: no features, no attention.
  head = make("depth")
  params = jax.tree.map(np.zeros_like, random_params(head))
  params["query"] = np.random.default_rng(0).normal(size=(12, 2, 4))
  params["query"] = params["query"].astype(np.float32)
  params["Dense_1"]["kernel"][0] = 1.0
  depth = read_out(head, params, latents())["depth"]
  for time, row, column in np.ndindex(2, 2, 3):
    block = depth[
      :,
      2 * time : 2 * time + 2,
      8 * row : 8 * row + 8,
      8 * column : 8 * column + 8,
    ]
    query = (time * 2 + row) * 3 + column
    np.testing.assert_allclose(block, params["query"][query, 0, 0], atol=1e-6)


def test_point_frames_follow_their_tiles():
  head = make("points", width=8)
  params = jax.tree.map(np.zeros_like, random_params(head))
  readout = params["attention_readout"]
  params["temporal_tile_posenc"]["embeddings"][:, 0] = [1.0, 2.0]
  readout["Dense_0"]["kernel"][0, 0] = 1.0
  # Numbers of a vector: (frame of the tile, x y visible certain).
  readout["Dense_2"]["kernel"][0] = [1, 2, 3, 4, 5, 6, 7, 8]
  out = read_out(head, params, latents(), labels())
  numbers = np.array(
    [[1, 2, 3, 4], [5, 6, 7, 8], [2, 4, 6, 8], [10, 12, 14, 16]]
  )
  xy = 1 / (1 + np.exp(-numbers[:, None, :2]))
  np.testing.assert_allclose(out["tracks"][0, :, :1], xy, atol=1e-6)
  np.testing.assert_allclose(
    out["visible_logit"][1, :, 2], numbers[:, 2], atol=1e-5
  )
  np.testing.assert_allclose(
    out["certainty_logit"][1, :, 0], numbers[:, 3], atol=1e-5
  )


def test_box_numbers_are_frame_major():
  head = make("boxes")
  params = jax.tree.map(np.zeros_like, random_params(head))
  bias = np.arange(FRAMES * 4, dtype=np.float32)
  params["attention_readout"]["Dense_2"]["bias"] = bias
  out = read_out(head, params, latents(), labels())["boxes"]
  np.testing.assert_array_equal(out[1, :, 2], bias.reshape(FRAMES, 4))


@pytest.mark.parametrize("task", ["points", "boxes"])
def test_an_anchored_head_without_weights_leaves_everything_in_place(task):
  """Only the last bias acts: the same way from wherever the query is."""
  name = {"points": "tracks", "boxes": "boxes"}[task]
  head = make(task, anchored=True)
  params = jax.tree.map(np.zeros_like, random_params(head))
  given = labels()
  given[name][0, 0, 0] = 0.0  # a corner of the image, where the logit is -inf
  still = read_out(head, params, latents(), given)[name]
  first = np.broadcast_to(given[name][:, :1], still.shape)
  np.testing.assert_allclose(still, first, atol=1e-3 + 1e-6)
  np.testing.assert_allclose(still[1], first[1], atol=1e-6)
  bias = params["attention_readout"]["Dense_2"]["bias"]
  bias[:2] = 0.25
  moved = read_out(head, params, latents(), given)[name]
  if task == "points":
    still, moved = (np.log(x / (1 - x)) for x in (still, moved))
  np.testing.assert_allclose(
    (moved - still)[1, 0, :, :2], np.full((3, 2), 0.25), atol=1e-4
  )


@pytest.mark.parametrize("task", ["points", "boxes"])
def test_only_the_first_frame_is_queried(task):
  head = make(task)
  params = random_params(head)
  first = labels()
  out = read_out(head, params, latents(), first)
  later = {name: x.copy() for name, x in first.items()}
  for x in later.values():
    x[:, 1:] = np.nan
  same = read_out(head, params, latents(), later)
  for name in out:
    np.testing.assert_array_equal(out[name], same[name])
  moved = {name: 1 - x for name, x in first.items()}
  other = read_out(head, params, latents(), moved)
  assert not np.allclose(*(next(iter(o.values())) for o in (out, other)))


@pytest.mark.parametrize("task", ["points", "boxes"])
def test_every_query_has_its_own_result(task):
  head = make(task)
  params = random_params(head)
  together = read_out(head, params, latents(), labels())
  alone = {name: x[:, :, 1:2] for name, x in labels().items()}
  for name, x in read_out(head, params, latents(), alone).items():
    np.testing.assert_allclose(together[name][:, :, 1:2], x, atol=1e-5)
    assert not np.allclose(together[name][:, :, :1], x, atol=1e-3)


def test_fourier_features_in_the_stated_order():
  coordinates = np.array([[0.3, 0.9], [0.0, 1.0]], np.float32)
  out = jax.jit(queries.fourier_features)(coordinates)
  assert out.shape == (2, 64)
  scaled = np.float32(np.pi) * coordinates
  for octave in range(16):
    for axis in range(2):
      # Multiplying a float32 by a power of two is exact.
      angle = (scaled[:, axis] * np.float32(2**octave)).astype(np.float32)
      shifted = angle + np.float32(np.pi / 2)
      column = 2 * octave + axis
      np.testing.assert_allclose(
        out[:, column], np.sin(angle.astype(np.float64)), atol=1e-6
      )
      np.testing.assert_allclose(
        out[:, 32 + column], np.sin(shifted.astype(np.float64)), atol=1e-6
      )


def test_wrong_use_is_refused():
  with pytest.raises(ValueError, match="unknown task 'flow'"):
    make("flow")
  with pytest.raises(ValueError, match="must be even"):
    random_params(make("points", num_frames=3))
  with pytest.raises(ValueError, match="do not divide into patches"):
    random_params(make("pixels", frame_size=(20, 16)))
  with pytest.raises(ValueError, match="boxes"):
    head = make("boxes")
    heads.read_out(head, random_params(head), latents(), {})
