"""Masking, targets, and what may influence what."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones.four_ds import to_patches
from forecasting.backbones.zoo import get_spec
from forecasting.pretraining import masked_pixels
from forecasting.pretraining.pixel_targets import patch_targets

GRID = (2, 4, 4)
CFG = {
  "masking": "random",
  "mask_fraction": 0.75,
  "decode_fraction": 0.5,
  "decoder_width": 24,
  "decoder_depth": 1,
  "decoder_heads": 2,
  "normalize_target": False,
  "visible_weight": 0.3,
  "flip": True,
}


def make_task(backbone="4ds_tiny", **changes):
  spec = dataclasses.replace(
    get_spec(backbone),
    resolution=16,
    patch=4,
    num_frames=4,
    width=24,
    depth=1,
    heads=2,
    mlp_dim=48,
  )
  return masked_pixels.MaskedPixels(spec, {**CFG, **changes})


@pytest.fixture(scope="module")
def task():
  """The task with the fields above, and parameters."""
  task = make_task()
  return task, jax.jit(task.init)(jax.random.key(0))


def make_clips(batch=3):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (batch, 4, 16, 16, 3), np.uint8)


def test_random_mask():
  def draw(key):
    return masked_pixels.draw_mask(key, (8, 8, 8), "random", 0.9, 0.5)

  visible, decoded = map(
    np.asarray, jax.vmap(draw)(jax.random.split(jax.random.key(0), 400))
  )
  assert visible.shape == (400, 51)
  assert decoded.shape == (400, 230)  # half of 461, rounded to even
  for row in np.concatenate([visible, decoded], axis=1):
    assert len(set(row)) == 281
  counts = np.bincount(visible.ravel(), minlength=512)
  # Binomial with mean 39.8 and deviation 6.
  assert counts.min() > 12 and counts.max() < 75
  assert not (visible[0] == visible[1]).all()


def test_tube_mask_hides_the_same_places_in_every_slot():
  visible, decoded = masked_pixels.draw_mask(
    jax.random.key(0), (8, 8, 8), "tube", 0.9, 0.5
  )
  slots, places = np.divmod(np.asarray(visible), 64)
  assert len(visible) == 48 and len(set(places)) == 6
  for place in set(places):
    assert sorted(slots[places == place]) == list(range(8))
  assert not set(np.asarray(decoded) % 64) & set(places)


@pytest.mark.parametrize("field", ["masking", "decoding"])
def test_unknown_masks_are_refused(field):
  choice = {"masking": "random", "decoding": "random"} | {field: "block"}
  with pytest.raises(ValueError, match=rf"objective\.{field}"):
    masked_pixels.draw_mask(
      jax.random.key(0),
      GRID,
      mask_fraction=0.9,
      decode_fraction=0.5,
      **choice,
    )


def test_running_cells_decode_every_hidden_place_equally_often():
  visible, decoded = masked_pixels.draw_mask(
    jax.random.key(0), (8, 8, 8), "tube", 0.9, 0.5, "running_cell"
  )
  slots, places = np.divmod(np.asarray(decoded), 64)
  hidden = set(range(64)) - set(np.asarray(visible) % 64)
  assert set(places) == hidden
  assert set(np.bincount(places)[sorted(hidden)]) == {4}
  # Two neighbors of a cell are decoded in each slot, and the next slot's are
  # those moved on by one.
  picked = np.zeros((8, 8, 8), bool)
  picked[slots, places // 8, places % 8] = True
  cells = [
    [
      {2 * y + x for y in (0, 1) for x in (0, 1) if picked[t, i + y, j + x]}
      for t in range(8)
    ]
    for i in range(0, 8, 2)
    for j in range(0, 8, 2)
    if all(8 * (i + y) + j + x in hidden for y in (0, 1) for x in (0, 1))
  ]
  assert cells
  for sets in cells:
    assert all(len(s) == 2 for s in sets)
    for now, then in itertools.pairwise(sets):
      assert then == {(place - 1) % 4 for place in now}


def test_hidden_pixels_never_enter_the_encoder(task):
  task, params = task
  video = jnp.asarray(make_clips(1), jnp.float32) / 255
  visible = jnp.array([[3, 17, 30]])

  def total(v):
    tokens = task.network.apply({"params": params["encoder"]}, v, visible)
    return jnp.square(tokens).sum()

  grads = jax.jit(jax.grad(total))(video)
  grads = np.asarray(to_patches(grads, task.patch))
  seen = np.abs(grads[0]).max(-1)
  assert set(np.flatnonzero(seen)) == {3, 17, 30}


def test_visible_subset_equals_all_if_all_are_visible(task):
  task, params = task
  encode = jax.jit(
    lambda *args: task.network.apply({"params": params["encoder"]}, *args)
  )
  video = jnp.asarray(make_clips(1), jnp.float32) / 255
  order = jax.random.permutation(jax.random.key(1), 32)[None]
  whole = encode(video)
  mixed = encode(video, order)
  np.testing.assert_allclose(mixed, whole[:, order[0]], atol=1e-4)


def test_targets():
  patches = np.random.default_rng(0).random((1, 2, 96)).astype(np.float32)
  raw = patch_targets(patches, False)
  np.testing.assert_allclose(raw, (patches - 0.5) * 4, rtol=1e-5)
  normalized = np.asarray(patch_targets(patches, True))
  for channel in range(3):
    pixels = patches[0, 1, channel::3].astype(np.float64)
    expected = (pixels - pixels.mean()) / np.sqrt(pixels.var() + 1e-4)
    np.testing.assert_allclose(
      normalized[0, 1, channel::3], expected, rtol=1e-4
    )


def test_flat_tubelets_have_finite_targets():
  flat = np.full((1, 1, 96), 0.3, np.float32)
  target = np.asarray(patch_targets(flat, True))
  np.testing.assert_allclose(target, 0, atol=1e-4)


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {
      "backbone": "videomae_tiny",
      "masking": "tube",
      "normalize_target": True,
      "visible_weight": 0.0,
      "decoding": "running_cell",
    },
  ],
  ids=["4ds", "videomae_v2"],
)
def test_loss_falls_on_one_batch(changes, train):
  history, _ = train(make_task(**changes), {"video": make_clips()}, 30)
  assert history[-1]["loss"] < 0.7 * history[0]["loss"]
  last = history[-1]
  expected = last["hidden"] + 0.3 * last.get("visible", 0.0)
  np.testing.assert_allclose(last["loss"], expected, rtol=1e-5)


def test_draws_of_a_clip_do_not_depend_on_the_batch(task):
  task, params = task
  loss = jax.jit(lambda batch: task.loss(params, batch, jax.random.key(1))[0])
  alone = loss({"video": make_clips(1)})
  pair = loss({"video": make_clips(2)})
  np.testing.assert_allclose(
    2 * pair - alone, loss_of_second(task, params), rtol=1e-4
  )


def loss_of_second(task, params):
  """The second clip's loss with draws made by hand from its own key."""
  key = jax.random.fold_in(jax.random.key(1), 1)
  video = jnp.asarray(make_clips(2)[1:], jnp.float32) / 255
  mask_key, flip_key = jax.random.split(key)
  visible, decoded = masked_pixels.draw_mask(
    mask_key, GRID, "random", CFG["mask_fraction"], CFG["decode_fraction"]
  )
  if jax.random.bernoulli(flip_key):
    video = video[:, :, :, ::-1]

  @jax.jit
  def predict(video, visible, decoded):
    tokens = task.network.apply({"params": params["encoder"]}, video, visible)
    return task.decoder.apply(
      {"params": params["decoder"]}, tokens, visible, decoded
    )

  predicted = predict(video, visible[None], decoded[None])
  patches = to_patches(video, task.patch)[0]
  count = len(visible)
  targets = (patches - 0.5) * 4
  hidden = jnp.square(predicted[0, count:] - targets[decoded]).mean()
  seen = jnp.square(predicted[0, :count] - targets[visible]).mean()
  return hidden + 0.3 * seen
