"""Decoding futures through a frozen readout."""

import jax
import numpy as np
import pytest

from forecasting.readouts import heads
from forecasting.samples import decode, panels

TASKS = ("pixels", "depth", "points", "boxes")

# Compiled whole, which takes a fraction of compiling every operation.
init_head = jax.jit(heads.init_head, static_argnums=(0, 2, 3))
read_out = jax.jit(heads.read_out, static_argnums=0)
decode_all = jax.jit(decode.decode, static_argnums=(0, 5))


def setup(task, seed=0):
  rng = np.random.default_rng(seed)
  head = heads.make_head(
    task,
    width=8,
    num_heads=2,
    num_frames=4,
    frame_size=(16, 16),
    query_hidden=8,
    positions="space_time",
    grid=(2, 2),
  )
  params = init_head(head, jax.random.key(seed), 4, 6)
  context = rng.normal(size=(2, 1, 2, 2, 6)).astype(np.float32)
  futures = rng.normal(size=(2, 3, 1, 2, 2, 6)).astype(np.float32)
  labels = {
    "tracks": rng.uniform(size=(2, 4, 3, 2)).astype(np.float32),
    "boxes": rng.uniform(size=(2, 4, 3, 4)).astype(np.float32),
  }
  return head, params, context, futures, labels


@pytest.mark.parametrize("task", TASKS)
def test_each_sample_is_read_out_behind_the_context(task):
  head, params, context, futures, labels = setup(task)
  outputs = decode_all(head, params, context, futures, labels)
  for s in range(3):
    latents = np.concatenate([context, futures[:, s]], axis=1)
    alone = read_out(head, params, latents, labels)
    first = 2 if task in heads.DENSE_CHANNELS else 0
    for name, value in alone.items():
      assert outputs[name][:, s].shape == value.shape
      np.testing.assert_allclose(
        outputs[name][:, s, first:], value[:, first:], atol=1e-5
      )


def test_observed_frames_of_dense_heads_are_read_once_a_clip():
  head, params, context, futures, labels = setup("depth")
  outputs = decode_all(head, params, context, futures, labels)["depth"]
  latents = np.concatenate([context, futures[:, 0]], axis=1)
  seen = read_out(head, params, latents, labels)["depth"][:, :2]
  for s in range(3):
    np.testing.assert_allclose(outputs[:, s, :2], seen, atol=1e-5)


def test_a_context_that_ends_inside_a_patch_is_read_with_every_sample():
  head, params, context, futures, labels = setup("depth")
  slots = np.concatenate([context, context, futures[:, 0]], axis=1)
  slots = np.concatenate([slots, futures[:, 1]], axis=1)
  more = np.stack([slots[:, 1:], slots[:, 1:] + 1], axis=1)  # a frame a slot
  found = decode_all(head, params, slots[:, :1], more, labels)["depth"]
  alone = read_out(head, params, slots, labels)["depth"]
  np.testing.assert_allclose(found[:, 0], alone, atol=1e-5)


@pytest.mark.parametrize("task", ["points", "boxes"])
def test_later_labels_do_not_reach_the_readout(task):
  head, params, context, futures, labels = setup(task)
  changed = {k: v.copy() for k, v in labels.items()}
  for value in changed.values():
    value[:, 1:] = -7.0
  first = decode_all(head, params, context, futures, labels)
  second = decode_all(head, params, context, futures, changed)
  for name in first:
    np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("task", ["pixels", "points", "boxes"])
def test_longer_clips_are_read_window_by_window(task):
  head, params, context, futures, labels = setup(task)
  # Two slots of two frames a window, of which the next one shares the second.
  window = decode.Window(slots=2, overlap=1)
  more = np.concatenate([futures, futures[:, ::-1]], axis=2)
  found = decode_all(head, params, context, more, labels, window)
  for s in range(3):
    latents = np.concatenate([context, more[:, s]], axis=1)
    first = read_out(head, params, latents[:, :2], labels)
    queries = {
      name: np.asarray(first[name])[:, 2:]
      for name in ("tracks", "boxes")
      if name in first
    }
    second = read_out(head, params, latents[:, 1:], queries)
    others = read_out(head, params, latents[:, 1:], labels)
    if queries:
      last = "boxes" if task == "boxes" else "visible_logit"
      gap = np.abs(np.asarray(second[last]) - others[last]).max()
      assert gap > 0.05, "the queries would not matter"
    for name, value in found.items():
      assert value.shape[2] == 6
      np.testing.assert_allclose(value[:, s, :4], first[name], atol=1e-5)
      # Waves of high frequency in a query blow up its rounding.
      later = np.asarray(second[name])[:, 2:]
      np.testing.assert_allclose(value[:, s, 4:], later, atol=2e-2)
  if task == "points":
    with pytest.raises(ValueError, match="no whole windows"):
      decode_all(
        head, params, context, more, labels, decode.Window(slots=5, overlap=1)
      )


def test_panels_keep_the_first_clips_and_three_samples(tmp_path):
  rng = np.random.default_rng(0)
  batch = {
    "video": rng.integers(0, 255, (4, 4, 8, 8, 3), dtype=np.uint8),
    "boxes": rng.uniform(size=(4, 4, 2, 4)).astype(np.float32),
    "box_mask": np.ones((4, 4, 2), bool),
    "object_mask": np.ones((4, 2), bool),
  }
  boxes = rng.uniform(size=(4, 5, 4, 2, 4)).astype(np.float32)
  kept = panels.Panels(2, 1)
  kept.add("boxes", "flow", batch, {"boxes": boxes})
  kept.write(tmp_path)
  with np.load(tmp_path / "boxes.npz") as file:
    assert file["flow/samples"].shape == (2, 3, 4, 2, 4)
    np.testing.assert_allclose(
      file["flow/mean"], boxes[:2].mean(axis=1), atol=1e-3
    )
    np.testing.assert_array_equal(file["truth"], batch["boxes"][:2])
  assert [path.name for path in tmp_path.iterdir()] == ["boxes.npz"]
