"""Places of tokens and queries, and that queries start by looking there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.readouts import heads, positions

FRAMES, GRID, CHANNELS = 4, (3, 5), 48


def test_waves_tell_neighbors_from_strangers():
  places = positions.token_places(FRAMES, GRID)
  stamps = np.asarray(positions.stamps(places, CHANNELS)).reshape(-1, CHANNELS)
  assert np.mean(stamps**2) == pytest.approx(1, abs=0.1)
  likeness = stamps @ stamps.T
  assert (likeness.argmax(1) == np.arange(len(stamps))).all()
  distance = np.linalg.norm(
    places.reshape(-1, 1, 3) - places.reshape(1, -1, 3), axis=-1
  )
  near, far = likeness[distance == 1].mean(), likeness[distance > 2].mean()
  assert near > far + 1


def test_channels_that_are_left_over_stay_empty():
  stamps = positions.stamps(np.ones((2, 3), np.float32), 16)
  assert stamps.shape == (2, 16)
  np.testing.assert_array_equal(np.asarray(stamps)[:, 12:], 0)


def test_patches_and_points_agree_with_tokens():
  tokens = positions.token_places(FRAMES, GRID).reshape(-1, 3)
  np.testing.assert_allclose(
    positions.patch_places(FRAMES, GRID, (FRAMES, *GRID)), tokens
  )
  # Two patches a token and side, two frames a patch.
  halves = positions.patch_places(FRAMES, GRID, (2, 6, 10))
  np.testing.assert_allclose(halves[0], [0.5, -0.25, -0.25])
  np.testing.assert_allclose(halves[-1], [2.5, 2.25, 4.25])
  centers = [[0.5 / 5, 0.5 / 3], [4.5 / 5, 2.5 / 3]]  # x, y
  found = positions.point_places(np.array(centers), np.array([1.0, 2.0]), GRID)
  np.testing.assert_allclose(found, [[1, 0, 0], [2, 2, 4]], atol=1e-6)


def make(task, **choices):
  head = heads.make_head(
    task,
    width=96,
    num_heads=2,
    num_frames=FRAMES,
    frame_size=(24, 40),
    query_hidden=32,
    positions="space_time",
    grid=GRID,
    **choices,
  )
  return head, heads.init_head(head, jax.random.key(0), 15, CHANNELS)


def sensitivity(head, params, labels, frame):
  """How much the first number of a frame changes with every token.

  All tokens are alike but for their places.
  """
  latents = jnp.zeros((1, FRAMES, *GRID, CHANNELS))

  def first(latents):
    out = heads.read_out(head, params, latents, labels)
    return jax.tree.leaves(out)[-1].reshape(FRAMES, -1)[frame, 0]

  grad = jax.jit(jax.grad(first))(latents)
  return np.linalg.norm(np.asarray(grad)[0], axis=-1)


def near_over_far(change, place):
  distance = np.linalg.norm(
    positions.token_places(FRAMES, GRID).reshape(FRAMES, *GRID, 3) - place,
    axis=-1,
  )
  return change[distance < 1.5].mean() / change[distance > 2.5].mean()


def test_a_point_starts_at_its_own_token():
  head, params = make("points")
  for row, column in ((2, 3), (0, 0)):
    where = [(column + 0.5) / 5, (row + 0.5) / 3]
    tracks = np.full((1, FRAMES, 1, 2), where, np.float32)
    change = sensitivity(head, params, {"tracks": tracks}, 3)
    assert near_over_far(change, (2.5, row, column)) > 3
    assert near_over_far(change, (2.5, 2 - row, 4 - column)) < 1


def test_a_pixel_starts_at_its_own_token():
  head, params = make("pixels")
  change = sensitivity(head, params, None, 0)
  assert near_over_far(change, (0.5, 0, 0)) > 3
  assert near_over_far(change, (2.5, 2, 4)) < 1


def test_output_starts_at_the_mean():
  head, params = make("depth", output_scale=0.0, output_mean=4.0)
  latents = np.ones((1, FRAMES, *GRID, CHANNELS), np.float32)
  depth = heads.read_out(head, params, latents)["depth"]
  np.testing.assert_array_equal(np.asarray(depth), 4.0)


def test_places_need_a_grid():
  with pytest.raises(ValueError, match=r"readout\.positions"):
    heads.make_head(
      "boxes",
      width=8,
      num_heads=1,
      num_frames=4,
      frame_size=(8, 8),
      positions="space_time",
    )
