"""DINOv2: balanced answers, hidden patches, views; the loss falls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.pretraining import self_distillation, views

CFG = {
  "name": "self_distillation",
  "frames": 2,
  "large_scale": (0.5, 1.0),
  "small_views": 1,
  "small_size": 8,
  "small_scale": (0.2, 0.5),
  "mask_fraction": (0.2, 0.6),
  "hidden": 24,
  "bottleneck": 8,
  "prototypes": 16,
  "student_temperature": 0.1,
  "teacher_temperature": 0.05,
  "patch_weight": 1.0,
  "even_weight": 0.1,
}


@pytest.fixture(scope="module")
def task(small_spec):
  spec = small_spec("dinov2_tiny")
  return self_distillation.SelfDistillation(spec, CFG)


def test_sinkhorn_uses_all_prototypes_equally():
  rng = np.random.default_rng(0)
  # Most tokens are nearest to the first prototype.
  cosines = rng.uniform(-1, 0.2, (64, 4)) + np.array([0.5, 0, 0, 0])
  answers = np.asarray(self_distillation.sinkhorn(jnp.asarray(cosines), 0.1))
  np.testing.assert_allclose(answers.sum(1), 1.0, rtol=1e-5)
  np.testing.assert_allclose(answers.sum(0), 16.0, rtol=0.2)
  plain = np.exp(cosines / 0.1)
  plain /= plain.sum(1, keepdims=True)
  assert plain.sum(0)[0] > 30


def test_evenness_is_the_log_distance_to_the_nearest():
  features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  unit = features / np.linalg.norm(features, axis=1, keepdims=True)
  nearest = [
    min(np.linalg.norm(a - b) for j, b in enumerate(unit) if i != j)
    for i, a in enumerate(unit)
  ]
  found = self_distillation.evenness(jnp.asarray(features))
  np.testing.assert_allclose(found, -np.mean(np.log(nearest)), rtol=1e-4)


def test_a_whole_view_is_the_frame_and_a_crop_is_inside(monkeypatch):
  for name in ("BRIGHTNESS", "CONTRAST", "TINT"):
    monkeypatch.setattr(views, name, 0.0)
  frame = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
  draw = jax.vmap(lambda key: views.draw_view(key, frame, (16, 16), (1.0, 1.0)))
  drawn = draw(jax.random.split(jax.random.key(0), 8))
  assert set(np.asarray(drawn[1])) == {False, True}
  for view, is_mirrored in zip(*map(np.asarray, drawn), strict=True):
    expected = frame[:, ::-1] if is_mirrored else frame
    np.testing.assert_allclose(view, expected, atol=1e-5)
  # A ramp from left to right: a crop shows a part of its values.
  ramp = np.broadcast_to(np.linspace(0, 1, 16)[None, :, None], (16, 16, 3))
  crop, _ = views.draw_view(
    jax.random.key(1), jnp.asarray(ramp), (8, 8), (0.2, 0.2)
  )
  crop = np.asarray(crop)
  assert crop.std(axis=0).max() < 1e-5
  assert 0.25 < np.ptp(crop) < 0.5


def test_masked_patches_are_not_seen(task, random_params):
  params = random_params(task)
  is_masked = np.zeros((1, 16), bool)
  is_masked[0, [2, 7]] = True

  @jax.jit
  def influence(frames):
    def total(frames):
      tokens = task.encode(params, frames, jnp.asarray(is_masked))
      return jnp.square(tokens[:, 0]).sum()

    return jax.grad(total)(frames)

  grads = np.asarray(influence(jnp.full((1, 16, 16, 3), 0.3)))
  by_patch = np.abs(grads[0]).reshape(4, 4, 4, 4, 3).max((1, 3, 4)).ravel()
  assert set(np.flatnonzero(by_patch == 0)) == {2, 7}


@pytest.mark.slow
def test_losses_fall_on_one_batch(task, make_video, train):
  history, _ = train(task, {"video": make_video(4)}, 60)
  assert history[-1]["view"] < 0.9 * history[0]["view"]
  assert history[-1]["in_use"] > 4  # of 16 prototypes: no collapse
