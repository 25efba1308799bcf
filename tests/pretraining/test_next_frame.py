"""NExT-Vid: what each part may see, proven by gradients; losses fall."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones.four_ds import to_patches
from forecasting.pretraining.next_frame import NextFrame, earlier_slots

SLOTS, PLACES = 4, 16
CFG = {
  "name": "next_frame",
  "maskings": ({"blocks": 2, "area": 0.3, "visible": 0.5},),
  "aspect": (0.75, 1.5),
  "width": 24,
  "depth": 2,
  "heads": 2,
  "times": 2,
  "align_weight": 1.0,
  "flow_weight": 0.5,
  "normalize_target": False,
  "flip": True,
}


@pytest.fixture(scope="module")
def made(small_spec, random_params):
  """The task and parameters none of which is zero."""
  task = NextFrame(small_spec("next_vid_tiny"), CFG)
  return task, random_params(task)


def visible_tokens():
  places = np.array([1, 2, 7, 12])
  return (np.arange(SLOTS)[:, None] * PLACES + places).ravel()[None]


def test_mask_of_the_predictor():
  mask = np.asarray(earlier_slots(3, 2, 1))
  expected = [[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0]]
  np.testing.assert_array_equal(mask, np.array(expected, bool))


def test_guess_of_a_slot_sees_visible_tokens_of_earlier_slots_only(made):
  task, params = made
  visible = visible_tokens()
  video = jax.random.uniform(jax.random.key(2), (1, 8, 16, 16, 3))

  def influence(video, slot):
    def total(video):
      guess = task.predict(params, video, jnp.asarray(visible))
      guess = guess.reshape(SLOTS - 1, PLACES, -1)
      return jnp.square(jax.lax.dynamic_index_in_dim(guess, slot)).sum()

    grads = to_patches(jax.grad(total)(video), task.patch)
    return jnp.abs(grads[0]).max(-1)

  influence = jax.jit(influence)
  for slot in range(1, SLOTS):
    seen = set(np.flatnonzero(np.asarray(influence(video, slot - 1))))
    allowed = {i for i in visible[0].tolist() if i < slot * PLACES}
    assert seen == allowed


def test_encoder_on_a_part_is_frame_causal(made):
  task, params = made
  visible = jnp.asarray(visible_tokens())
  video = jax.random.uniform(jax.random.key(2), (1, 8, 16, 16, 3))
  later = video.at[:, 4:].add(0.3)  # slots 2 and 3
  guess = jax.jit(lambda video: task.predict(params, video, visible))
  first, second = (
    np.asarray(guess(v)).reshape(SLOTS - 1, PLACES, -1) for v in (video, later)
  )
  np.testing.assert_array_equal(first[:2], second[:2])  # of slots 1 and 2
  assert np.abs(first[2] - second[2]).max() > 1e-4


def test_decoder_isolates_slots_and_sees_its_guess(made):
  task, params = made
  noisy = jax.random.normal(jax.random.key(4), (3, PLACES, 96))
  guess = jax.random.normal(jax.random.key(5), (3, PLACES, 24))
  time = jnp.array([0.1, 0.5, 0.9])

  @jax.jit
  def influence(noisy, guess):
    def total(noisy, guess):
      velocity = task.decoder.apply(
        {"params": params["decoder"]}, noisy, guess, time
      )
      return jnp.square(velocity[1]).sum()

    grads = jax.grad(total, argnums=(0, 1))(noisy, guess)
    return [jnp.abs(grad).max((1, 2)) for grad in grads]

  for seen in influence(noisy, guess):
    assert seen[1] > 0 and seen[0] == seen[2] == 0


@pytest.mark.slow
def test_losses_do_not_reach_the_reference_but_both_reach_the_encoder(
  made, make_video
):
  task, params = made
  batch = {"video": make_video(1)}

  def part(params, average, name):
    return task.loss(params, batch, jax.random.key(0), average)[1][name]

  @jax.jit
  def sizes(params, average):
    grads = jax.grad(part, argnums=1)(params, average, "align")
    own = [
      jax.grad(part)(params, average, name)["encoder"]
      for name in ("align", "flow")
    ]
    return [
      sum(jnp.abs(x).sum() for x in jax.tree.leaves(tree))
      for tree in (grads, *own)
    ]

  reference, align, flow = sizes(params, params)
  assert reference == 0 and align > 0 and flow > 0


@pytest.mark.slow
def test_alignment_and_flow_fall_on_one_batch(small_spec, make_video, train):
  task = NextFrame(small_spec("next_vid_tiny"), CFG)
  history, _ = train(task, {"video": make_video()}, steps=40)
  for name in ("align", "flow"):
    assert history[-1][name] < 0.8 * history[0][name], name
  again, _ = train(task, {"video": make_video()}, steps=2)
  assert again == history[:2]
  parts = history[3]
  np.testing.assert_allclose(
    parts["loss"], parts["align"] + 0.5 * parts["flow"], rtol=1e-5
  )
