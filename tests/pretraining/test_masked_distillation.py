"""VideoPrism's second stage: places hidden, tokens told apart from places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from forecasting.pretraining.masked_distillation import MaskedDistillation
from forecasting.pretraining.tokens import encode_places

pytestmark = pytest.mark.slow

CFG = {
  "name": "masked_distillation",
  "teacher": None,
  "mask_fraction": 0.5,
  "width": 24,
  "depth": 1,
  "heads": 2,
  "mean_weight": 1.0,
  "flip": True,
}


@pytest.fixture(scope="module")
def task(small_spec):
  sizes = {"temporal_depth": 1, "table": (4, 4, 4)}
  spec = small_spec("videoprism_tiny", depth=2, num_frames=4, sizes=sizes)
  return MaskedDistillation(spec, CFG)


def test_all_places_give_the_backbones_latents(task):
  video = jax.random.uniform(jax.random.key(0), (1, 4, 16, 16, 3))
  order = jax.random.permutation(jax.random.key(1), 16)[None]
  encode = jax.jit(
    lambda places: encode_places(task.network, task.teacher, video, places)
  )
  tokens = encode(order)
  whole = jax.jit(lambda v: task.latents(task.teacher, v))(video)
  whole = rearrange(whole, "B t h w D -> B t (h w) D")[:, :, order[0]]
  np.testing.assert_allclose(
    tokens, rearrange(whole, "B t p D -> B (t p) D"), atol=1e-5
  )


def test_hidden_places_are_not_seen(task):
  params = jax.jit(task.init)(jax.random.key(0))
  places = jnp.array([[0, 5, 6]])
  tokens = jnp.arange(12)[None]

  @jax.jit
  def influence(video):
    def total(video):
      return jnp.square(task.predict(params, video, places, tokens)[0]).sum()

    return jax.grad(total)(video)

  grads = np.asarray(influence(jnp.full((1, 4, 16, 16, 3), 0.3)))
  grads = rearrange(grads, "1 T (h p) (w q) c -> T (h w) (p q c)", p=4, q=4)
  seen = np.abs(grads).max(-1) > 0
  assert (seen == np.isin(np.arange(16), [0, 5, 6])).all()


def test_student_nears_its_teacher(task, make_video, train):
  history, _ = train(task, {"video": make_video(2, frames=4)}, 40)
  for name in ("tokens", "mean"):
    assert history[-1][name] < 0.6 * history[0][name], name
