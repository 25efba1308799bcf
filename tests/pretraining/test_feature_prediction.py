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
      return jnp.square(task.predict(params, video, visible, hidden)).sum()

    return jnp.abs(to_patches(jax.grad(total)(video), (2, 4, 4))[0]).max(-1)

  seen = set(np.flatnonzero(np.asarray(influence(video))))
  assert seen == {1, 5, 20, 63}


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
