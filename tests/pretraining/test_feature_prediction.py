"""V-JEPA: what the guess may see, and that its target teaches nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones.four_ds import to_patches
from forecasting.pretraining.feature_prediction import FeaturePrediction

CFG = {
  "name": "feature_prediction",
  "maskings": ({"blocks": 2, "area": 0.3, "visible": 0.5},),
  "aspect": (0.75, 1.5),
  "visible_weight": 0.0,
  "width": 24,
  "depth": 1,
  "heads": 2,
  "flip": True,
}


@pytest.fixture(scope="module")
def task(small_spec):
  return FeaturePrediction(small_spec("vjepa_tiny"), CFG)


def test_guess_sees_visible_tokens_only(task, random_params):
  params = random_params(task)
  video = jax.random.uniform(jax.random.key(2), (1, 8, 16, 16, 3))
  visible, hidden = jnp.array([[1, 5, 20, 63]]), jnp.array([[0, 2, 40]])

  @jax.jit
  def influence(video):
    def total(video):
      own, guess = task.predict(params, video, visible, hidden)
      assert own.shape[1] == 0
      return jnp.square(guess).sum()

    return jnp.abs(to_patches(jax.grad(total)(video), (2, 4, 4))[0]).max(-1)

  seen = set(np.flatnonzero(np.asarray(influence(video))))
  assert seen == {1, 5, 20, 63}


def test_visible_tokens_tell_their_own_targets(
  small_spec, random_params, make_video
):
  task = FeaturePrediction(
    small_spec("vjepa_tiny"), CFG | {"visible_weight": 2.0}
  )
  params, average = random_params(task), random_params(task)
  batch, key = {"video": make_video()}, jax.random.key(0)
  total, parts = task.loss(params, batch, key, average)
  np.testing.assert_allclose(
    total, parts["hidden"] + 2.0 * parts["visible"], rtol=1e-6
  )
  # By a dense layer of their own: it changes their error, and no other.
  changed = jax.tree.map(lambda x: x, params)
  layer = changed["predictor"]["reconstruction"]
  layer["bias"] = layer["bias"] + 1.0
  _, others = task.loss(changed, batch, key, average)
  assert others["hidden"] == parts["hidden"]
  assert others["visible"] != parts["visible"]


@pytest.mark.slow
def test_error_falls_and_targets_stay_spread(task, make_video, train):
  history, params = train(task, {"video": make_video()}, 40)
  assert history[-1]["hidden"] < 0.8 * history[0]["hidden"]
  assert history[-1]["spread"] > 0.1
  batch = {"video": make_video()}
  grads = jax.jit(
    jax.grad(lambda a: task.loss(params, batch, jax.random.key(0), a)[0])
  )(params)
  assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(grads))
