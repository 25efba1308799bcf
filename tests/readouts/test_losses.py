"""Losses against loops over every number, with masks, padding and NaN."""

import math

import jax
import numpy as np
import pytest

from forecasting.readouts import losses, patches

BATCH, FRAMES, NUM, SIZE = 3, 4, 5, (16, 8)
LOSSES = {
  "pixels": losses.pixels_loss,
  "depth": losses.depth_loss,
  "points": losses.points_loss,
  "boxes": losses.boxes_loss,
}
TASKS = tuple(LOSSES)
MIN_DEPTH = float(np.float32(1e-3))


def make_outputs(seed=0):
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

  return {
    "video": normal(BATCH, FRAMES, *SIZE, 3),
    "depth": normal(BATCH, FRAMES, *SIZE, 1),
    "tracks": rng.uniform(size=(BATCH, FRAMES, NUM, 2)).astype(np.float32),
    "visible_logit": normal(BATCH, FRAMES, NUM),
    "certainty_logit": normal(BATCH, FRAMES, NUM),
    "boxes": normal(BATCH, FRAMES, NUM, 4),
  }


def make_labels(seed=1):
  rng = np.random.default_rng(seed)
  depth = rng.uniform(0.0, 14.0, (BATCH, FRAMES, *SIZE, 1))
  depth.flat[:6] = [0.0, 1e-3, 10.0, np.nan, np.inf, -1.0]
  # Half of the points are near their prediction: within and beyond 6 pixels.
  near = make_outputs()["tracks"] + rng.normal(
    size=(BATCH, FRAMES, NUM, 2), scale=0.02
  )
  far = rng.uniform(size=near.shape)
  tracks = np.where(rng.random((BATCH, 1, NUM, 1)) < 0.5, near, far)
  visible = rng.random((BATCH, FRAMES, NUM)) < 0.7
  track_mask = rng.random((BATCH, NUM)) < 0.8
  tracks[~visible] = np.nan
  boxes = rng.uniform(size=(BATCH, FRAMES, NUM, 4))
  box_mask = rng.random((BATCH, FRAMES, NUM)) < 0.7
  boxes[~box_mask] = np.inf
  return {
    "video": rng.integers(0, 256, (BATCH, FRAMES, *SIZE, 3), np.uint8),
    "depth": depth.astype(np.float32),
    "tracks": tracks.astype(np.float32),
    "visible": visible,
    "track_mask": track_mask,
    "boxes": boxes.astype(np.float32),
    "box_mask": box_mask,
    "object_mask": rng.random((BATCH, NUM)) < 0.8,
    "example_id": np.array([11, 5, 8], np.uint32),
  }


def loss_of(task, outputs, labels, example_mask=None):
  return jax.jit(LOSSES[task])(outputs, labels, example_mask)


def mean(values):
  return sum(values) / len(values) if values else 0.0


def expected_dense(outputs, labels, name, examples):
  values = []
  for place in np.ndindex(labels[name].shape):
    target = float(labels[name][place])
    if name == "video":
      target /= 255
    elif not (math.isfinite(target) and MIN_DEPTH < target <= 10):
      continue
    if place[0] in examples:
      values.append((float(outputs[name][place]) - target) ** 2)
  return mean(values)


def expected_boxes(outputs, labels, examples):
  values = []
  for b, t, q, c in np.ndindex(BATCH, FRAMES, NUM, 4):
    present = labels["box_mask"][b, t, q] and labels["box_mask"][b, 0, q]
    if present and labels["object_mask"][b, q] and b in examples:
      error = outputs["boxes"][b, t, q, c] - labels["boxes"][b, t, q, c]
      values.append(float(error) ** 2)
  return mean(values)


def expected_points(outputs, labels, examples, within=6):
  position, visibility, certainty = [], [], []

  def cross_entropy(logit, target):
    probability = 1 / (1 + math.exp(-float(logit)))
    return -math.log(probability if target else 1 - probability)

  for b, t, q in np.ndindex(BATCH, FRAMES, NUM):
    queried = labels["track_mask"][b, q] and labels["visible"][b, 0, q]
    if not queried or b not in examples:
      continue
    seen = labels["visible"][b, t, q]
    visibility.append(cross_entropy(outputs["visible_logit"][b, t, q], seen))
    if not seen:
      continue
    offset = outputs["tracks"][b, t, q] - labels["tracks"][b, t, q]
    r = 256 * math.hypot(*(float(x) for x in offset))
    position.append(r**2 / 2 if r < 4 else 4 * (r - 2))
    near = r <= within
    certainty.append(cross_entropy(outputs["certainty_logit"][b, t, q], near))
  terms = [mean(x) for x in (position, visibility, certainty)]
  return 0.05 * terms[0] + terms[1] + terms[2], terms


def expected_loss(task, outputs, labels, examples=(0, 1, 2)):
  if task == "points":
    return expected_points(outputs, labels, examples)[0]
  if task == "boxes":
    return expected_boxes(outputs, labels, examples)
  name = {"pixels": "video", "depth": "depth"}[task]
  return expected_dense(outputs, labels, name, examples)


@pytest.mark.parametrize("task", TASKS)
def test_loss_is_the_mean_over_the_mask(task):
  outputs, labels = make_outputs(), make_labels()
  loss, terms = loss_of(task, outputs, labels)
  assert loss == pytest.approx(expected_loss(task, outputs, labels), rel=1e-5)
  if task == "points":
    _, expected = expected_points(outputs, labels, (0, 1, 2))
    names = ("position", "visibility", "certainty")
    for name, value in zip(names, expected, strict=True):
      assert terms[name] == pytest.approx(value, rel=1e-5)
  else:
    assert terms == {"squared_error": loss}


def test_how_near_is_certain():
  outputs, labels = make_outputs(), make_labels()
  found = []
  for within in (1.0, 120.0):
    _, terms = losses.points_loss(outputs, labels, certain_within=within)
    expected = expected_points(outputs, labels, (0, 1, 2), within)[1][2]
    assert terms["certainty"] == pytest.approx(expected, rel=1e-5)
    found.append(expected)
  assert found[0] != pytest.approx(found[1], rel=1e-2)


@pytest.mark.parametrize("task", TASKS)
def test_padded_examples_do_not_matter(task):
  outputs, labels = make_outputs(), make_labels()
  mask = np.array([True, False, True])
  loss, _ = loss_of(task, outputs, labels, mask)
  expected = expected_loss(task, outputs, labels, examples=(0, 2))
  assert loss == pytest.approx(expected, rel=1e-5)
  assert loss != loss_of(task, outputs, labels)[0]

  def spoil(batch, filling):
    batch = {name: np.array(x) for name, x in batch.items()}
    for x in batch.values():
      x[1] = filling if x.dtype == np.float32 else 1
    return batch

  spoiled, _ = loss_of(task, spoil(outputs, 1e6), spoil(labels, np.nan), mask)
  assert spoiled == loss


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("empty", [False, True])
def test_gradients_are_finite(task, empty):
  outputs, labels = make_outputs(), make_labels()
  # A prediction that is exactly right: the distance has no derivative there.
  b, q = np.argwhere(labels["track_mask"] & labels["visible"][:, 0])[0]
  labels["tracks"][b, 0, q] = outputs["tracks"][b, 0, q]
  mask = np.full(BATCH, not empty)

  def scalar(outputs):
    return LOSSES[task](outputs, labels, mask)[0]

  loss, gradients = jax.jit(jax.value_and_grad(scalar))(outputs)
  assert np.isfinite(loss)
  leaves = jax.tree.leaves(gradients)
  assert all(np.all(np.isfinite(x)) for x in leaves)
  assert any(np.any(x) for x in leaves) != empty
  assert (loss == 0) == empty


@pytest.mark.parametrize(
  ("task", "emptied"),
  [
    ("depth", {"depth": 0.0}),
    ("points", {"track_mask": False}),
    ("points", {"visible": False}),
    ("boxes", {"object_mask": False}),
    ("boxes", {"box_mask": False}),
  ],
)
def test_nothing_labeled_is_zero(task, emptied):
  labels = make_labels()
  for name, value in emptied.items():
    labels[name] = np.full_like(labels[name], value)
  loss, terms = loss_of(task, make_outputs(), labels)
  assert loss == 0
  assert not any(terms.values())


@pytest.mark.parametrize(
  ("task", "name"), [("pixels", "video"), ("depth", "depth")]
)
def test_patches_are_compared_with_their_part_of_the_labels(task, name):
  outputs, labels = make_outputs(), make_labels()
  every = patches.patchify(outputs[name])
  number = every.shape[1]
  whole, _ = loss_of(task, outputs, labels)
  order = np.random.default_rng(0).permutation(number)
  subset = {"patches": every[:, order], "query_index": order}
  assert loss_of(task, subset, labels)[0] == pytest.approx(
    float(whole), rel=1e-5
  )

  few = order[:2]
  subset = {"patches": every[:, few], "query_index": few}
  kept = patches.patchify(np.zeros_like(outputs[name]))
  kept[:, few] = 1
  kept = patches.unpatchify(kept, FRAMES, SIZE) > 0
  masked = {**labels, "depth": np.where(kept[..., :1], labels["depth"], 0)}
  if task == "depth":
    expected = expected_loss(task, outputs, masked)
  else:
    error = outputs[name] - labels[name] / 255
    expected = np.mean(np.square(error[kept]))
  assert loss_of(task, subset, labels)[0] == pytest.approx(expected, rel=1e-5)


def test_float_video_is_not_divided():
  outputs, labels = make_outputs(), make_labels()
  floats = {"video": (labels["video"] / 255).astype(np.float32)}
  same, _ = loss_of("pixels", outputs, floats)
  assert same == pytest.approx(float(loss_of("pixels", outputs, labels)[0]))


def test_half_precision_depth_is_compared_in_float32():
  labels = make_labels()
  labels["depth"] = np.full((BATCH, FRAMES, *SIZE, 1), 9.0, np.float16)
  outputs = {"depth": np.full(labels["depth"].shape, 609.0, np.float32)}
  assert loss_of("depth", outputs, labels)[0] == pytest.approx(600.0**2)


class TestSubsetTracks:
  """Random tracks for a cheaper step."""

  def test_keeps_different_valid_tracks_first(self):
    labels = make_labels()
    # Every track carries its number.
    numbers = np.arange(NUM, dtype=np.float32)[:, None]
    labels["tracks"] = np.broadcast_to(numbers, (BATCH, FRAMES, NUM, 2))
    valid = labels["track_mask"] & labels["visible"][:, 0]
    draw = jax.jit(losses.subset_tracks, static_argnums=2)
    kept = np.zeros((BATCH, NUM), int)
    for seed in range(100):
      subset = draw(labels, jax.random.key(seed), 3)
      for b in range(BATCH):
        found = np.asarray(subset["tracks"][b, 0, :, 0]).astype(int)
        assert len(set(found.tolist())) == 3
        mask = np.asarray(subset["track_mask"][b])
        np.testing.assert_array_equal(mask, valid[b, found])
        assert mask.sum() == min(3, valid[b].sum())
        np.testing.assert_array_equal(
          subset["visible"][b], labels["visible"][b][:, found]
        )
        kept[b, found] += 1
    for b in range(BATCH):
      share = min(3 / valid[b].sum(), 1)
      np.testing.assert_allclose(kept[b][valid[b]], 100 * share, atol=18)

  def test_expectation_is_the_full_loss(self):
    outputs, labels = make_outputs(), make_labels()
    # One prediction per clip and frame, so that it fits any track.
    same = {
      name: np.broadcast_to(x[:, :, :1], x.shape) for name, x in outputs.items()
    }
    _, terms = loss_of("points", same, labels)

    @jax.jit
    @jax.vmap
    def draw(key):
      subset = losses.subset_tracks(labels, key, 1)
      few = {name: x[:, :, :1] for name, x in same.items()}
      return losses.points_loss(few, subset)[1]["visibility"]

    values = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    error = values.std() / math.sqrt(len(values))
    assert error > 0
    assert abs(values.mean() - terms["visibility"]) < 4 * error

  def test_weights_undo_unequal_counts(self):
    labels = make_labels()
    labels["visible"][:] = True
    labels["track_mask"][:] = [
      [1, 1, 1, 1, 1],
      [1, 1, 1, 0, 0],
      [1, 0, 0, 0, 0],
    ]
    subset = losses.subset_tracks(labels, jax.random.key(0), 2)
    np.testing.assert_allclose(
      subset["track_weight"], [[2.5] * 2, [1.5] * 2, [1.0] * 2]
    )

  def test_a_clips_draw_is_its_own(self):
    labels, key = make_labels(), jax.random.key(3)
    subset = losses.subset_tracks(labels, key, 2)
    alone = {name: x[1:2] for name, x in labels.items()}
    one = losses.subset_tracks(alone, key, 2)
    np.testing.assert_array_equal(one["tracks"], subset["tracks"][1:2])

  def test_all_tracks_when_none_are_to_go(self):
    labels = make_labels()
    for num in (0, NUM, NUM + 1):
      subset = losses.subset_tracks(labels, jax.random.key(0), num)
      assert subset.keys() == labels.keys()
      np.testing.assert_array_equal(subset["tracks"], labels["tracks"])
