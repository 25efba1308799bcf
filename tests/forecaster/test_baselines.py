"""Forecasts without training, against hand computation."""

import jax
import numpy as np
import pytest
import tiny

from forecasting.forecaster import baselines
from forecasting.forecaster.registry import make_forecaster

SPEC = tiny.SPEC
TASKS = ("pixels", "depth", "points", "boxes")
NUM_CONTEXT, NUM_FRAMES = 4, 10


def _labels(seed=0, size=3, count=5):
  rng = np.random.default_rng(seed)
  shape = (size, NUM_FRAMES)
  return {
    "seconds": np.tile(
      np.arange(NUM_FRAMES, dtype=np.float32) * 0.2, (size, 1)
    ),
    "video": rng.integers(0, 256, (*shape, 6, 6, 3), np.uint8),
    "depth": rng.uniform(1, 5, (*shape, 6, 6, 1)).astype(np.float32),
    "tracks": rng.uniform(0, 1, (*shape, count, 2)).astype(np.float32),
    "visible": rng.uniform(size=(*shape, count)) < 0.6,
    "boxes": np.sort(rng.uniform(0, 1, (*shape, count, 4)), axis=-1)[
      ..., [0, 2, 1, 3]
    ][..., [0, 2, 1, 3]].astype(np.float32),
    "box_mask": rng.uniform(size=(*shape, count)) < 0.6,
  }


@pytest.mark.parametrize(
  "method", [baselines.persistence_output, baselines.constant_velocity]
)
@pytest.mark.parametrize("task", TASKS)
def test_future_labels_are_not_read(task, method):
  labels, other = _labels(0), _labels(1)
  mixed = {
    key: np.concatenate(
      [labels[key][:, :NUM_CONTEXT], other[key][:, NUM_CONTEXT:]], axis=1
    )
    for key in labels
  }
  before = method(task, labels, NUM_CONTEXT)
  after = method(task, mixed, NUM_CONTEXT)
  if method is baselines.constant_velocity and task in ("pixels", "depth"):
    assert before is None and after is None
    return
  assert before.keys() == after.keys()
  for key, value in before.items():
    np.testing.assert_array_equal(value, after[key])
    assert value.shape[1] == NUM_FRAMES and value.dtype == np.float32


def test_persistence_of_pixels_and_depth():
  labels = _labels()
  labels["depth"][:, 3, 0, 0] = 0.0
  labels["depth"][:, :4, 1, 1] = 0.0
  video = baselines.persistence_output("pixels", labels, 4)["video"]
  last = labels["video"][:, 3] / np.float32(255)
  np.testing.assert_allclose(video[:, 4:], np.stack([last] * 6, 1), rtol=1e-6)
  depth = baselines.persistence_output("depth", labels, 4)["depth"]
  np.testing.assert_array_equal(depth[:, 7, 2:], labels["depth"][:, 3, 2:])
  # Invalid in the last frame: the last valid value; never valid: the mean.
  np.testing.assert_array_equal(depth[:, 7, 0, 0], labels["depth"][:, 2, 0, 0])
  context = labels["depth"][:, :4]
  means = [clip[clip > 0].mean() for clip in context]
  np.testing.assert_allclose(depth[:, 7, 1, 1, 0], means, rtol=1e-5)


def test_persistence_of_boxes_and_points_takes_what_was_last_seen():
  labels = _labels(size=1, count=2)
  labels["box_mask"][0, :4] = [[True, True], [True, False]] + [[False] * 2] * 2
  labels["visible"][0, :4] = [
    [True, True],
    [True, False],
    [True, False],
    [False, True],
  ]
  boxes = baselines.persistence_output("boxes", labels, 4)["boxes"]
  np.testing.assert_array_equal(boxes[0, 9, 0], labels["boxes"][0, 1, 0])
  np.testing.assert_array_equal(boxes[0, 9, 1], labels["boxes"][0, 0, 1])
  points = baselines.persistence_output("points", labels, 4)
  np.testing.assert_array_equal(
    points["tracks"][0, 9, 0], labels["tracks"][0, 2, 0]
  )
  np.testing.assert_array_equal(
    points["tracks"][0, 9, 1], labels["tracks"][0, 3, 1]
  )
  sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
  seen = sigmoid(points["visible_logit"]) * sigmoid(points["certainty_logit"])
  np.testing.assert_array_equal(seen[0, 9] > 0.5, [False, True])


def test_constant_velocity_continues_straight_lines():
  labels = _labels(size=2, count=3)
  seconds = labels["seconds"][0]
  start = np.array([[0.1, 0.2], [0.3, 0.3], [0.5, 0.1]])
  speed = np.array([[0.1, 0.0], [-0.05, 0.1], [0.2, 0.3]])
  line = start + seconds[:, None, None] * speed
  labels["tracks"] = np.stack([line, line]).astype(np.float32)
  labels["boxes"] = np.concatenate([line, line + 0.2], -1)[None].repeat(2, 0)
  labels["visible"][:, :4] = labels["box_mask"][:, :4] = True
  labels["visible"][:, 1] = labels["box_mask"][:, 1] = False
  points = baselines.constant_velocity("points", labels, 4)
  boxes = baselines.constant_velocity("boxes", labels, 4)
  np.testing.assert_allclose(points["tracks"], labels["tracks"], atol=1e-6)
  np.testing.assert_allclose(boxes["boxes"], labels["boxes"], atol=1e-6)


def test_constant_velocity_is_the_least_squares_fit():
  labels = _labels(size=1, count=1)
  labels["visible"][:, :4, 0] = [True, False, True, True]
  out = baselines.constant_velocity("points", labels, 4)["tracks"]
  seen = [0, 2, 3]
  fit = np.polyfit(
    labels["seconds"][0, seen], labels["tracks"][0, seen, 0], deg=1
  )
  expected = fit[0] * labels["seconds"][0, 4:, None] + fit[1]
  np.testing.assert_allclose(out[0, 4:, 0], expected, atol=1e-5)


def test_one_observation_stands_still_and_boxes_never_turn_inside_out():
  labels = _labels(size=1, count=2)
  labels["box_mask"][0, :4] = [[True, True]] + [[False, True]] * 3
  shrink = np.linspace(0.4, 0.1, 4)[:, None]
  labels["boxes"][0, :4, 1] = np.concatenate(
    [0.5 - shrink, 0.5 - shrink, 0.5 + shrink, 0.5 + shrink], -1
  )
  boxes = baselines.constant_velocity("boxes", labels, 4)["boxes"][0, 4:]
  np.testing.assert_allclose(
    boxes[:, 0], np.tile(labels["boxes"][0, 0, 0], (6, 1)), rtol=1e-6
  )
  assert np.all(boxes[..., :2] <= boxes[..., 2:])
  np.testing.assert_allclose(boxes[2:, 1], 0.5, atol=1e-6)


def test_unknown_task_and_missing_label():
  with pytest.raises(ValueError, match="unknown task 'flow'"):
    baselines.persistence_output("flow", _labels(), 4)
  labels = _labels()
  del labels["visible"]
  with pytest.raises(ValueError, match="lack 'visible'"):
    baselines.persistence_output("points", labels, 4)


def test_latent_persistence_repeats_the_last_slot():
  forecaster = make_forecaster("persistence_latent", tiny.config(), SPEC, None)
  data = tiny.batch(2)
  keys = jax.random.split(jax.random.key(0), 2)
  params = forecaster.init(keys[0])
  out = forecaster.sample(params, data["context"], data["times"], keys, 10)
  assert out.shape == (2, 1, *data["future"].shape[1:])
  for slot in range(SPEC.tf):
    np.testing.assert_array_equal(out[:, 0, slot], data["context"][:, -1])


def test_climatology_draws_from_the_bank():
  forecaster = make_forecaster("climatology", tiny.config(), SPEC, None)
  bank = tiny.batch(6)
  data, keys = tiny.batch(32), jax.random.split(jax.random.key(0), 32)
  params = forecaster.fit(bank)
  out = np.asarray(
    forecaster.sample(params, data["context"], data["times"], keys, 10)
  )
  same = np.all(
    out[:, :, None] == np.asarray(bank["future"])[None, None],
    axis=(3, 4, 5, 6),
  )
  assert np.all(same.sum(-1) == 1)
  counts = same.sum((0, 1))
  assert np.all(np.abs(counts - 320 / 6) < 4 * np.sqrt(320 / 6))
  four = forecaster.sample(params, data["context"], data["times"], keys, 4)
  np.testing.assert_array_equal(four, out[:, :4])
  with pytest.raises(ValueError, match="fit"):
    forecaster.init(keys[0])
  with pytest.raises(ValueError, match="expected"):
    forecaster.fit(bank | {"future": bank["future"][:, :1]})
