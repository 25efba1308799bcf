"""The forecaster of one call: its score, its samples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from forecasting.forecaster import count, energy, one_call
from forecasting.forecaster.registry import make_forecaster


def _score_by_loops(members, truth, norm):
  """The fair energy score of one example, a vector at a time."""
  tf, h, w, channels = truth.shape
  vectors = {
    "token": lambda x: x.reshape(tf * h * w, channels),
    "position": lambda x: np.moveaxis(x, 0, 2).reshape(h * w, tf * channels),
    "clip": lambda x: x.reshape(1, -1),
  }[norm]
  total, count = 0.0, len(members)
  for place in range(len(vectors(truth))):
    x = [vectors(member)[place] for member in members]
    y = vectors(truth)[place]
    error = sum(np.linalg.norm(xi - y) for xi in x) / count
    apart = sum(np.linalg.norm(a - b) for a in x for b in x)
    total += error - apart / (2 * count * (count - 1))
  return total / len(vectors(truth))


@pytest.mark.parametrize("norm", one_call.NORMS)
def test_score_equals_loops(norm):
  rng = np.random.default_rng(0)
  members, truth = rng.normal(size=(2, 3, 3, 2, 4, 5)), rng.normal(size=(2, 60))
  truth = truth.reshape(2, 3, 2, 2, 5).repeat(2, axis=3)
  expected = [
    _score_by_loops(*pair, norm) for pair in zip(members, truth, strict=True)
  ]
  score = energy.fair_energy_score(
    members.astype(np.float32), truth.astype(np.float32), norm
  )
  np.testing.assert_allclose(score, expected, rtol=1e-5)


def test_equal_members_have_a_gradient():
  truth = jnp.ones((1, 1, 1, 1, 2))

  def score(members):
    return energy.fair_energy_score(members, truth)[0]

  grad = jax.grad(score)(jnp.zeros((1, 2, 1, 1, 1, 2)))
  np.testing.assert_allclose(grad, -0.5 / np.sqrt(2), rtol=1e-6)


def test_samples_differ_and_follow_their_keys():
  forecaster, params = tiny.make("energy")
  data, keys = tiny.batch(3), jax.random.split(jax.random.key(7), 3)
  draw = jax.jit(forecaster.sample, static_argnums=4)
  seven = draw(params, data["context"], data["times"], keys, 7)
  assert np.abs(seven[:, 0] - seven[:, 6]).max() > 0.1
  two = draw(params, data["context"][1:], data["times"][1:], keys[1:], 2)
  np.testing.assert_array_equal(two, seven[1:, :2])


def test_noise_is_counted():
  forecaster, params = tiny.make("energy")
  number = sum(leaf.size for leaf in jax.tree.leaves(params))
  config = forecaster.network.config
  assert config.condition_dim == tiny.config().energy.noise_dim
  assert count.count_parameters(config, tiny.SPEC.channels) == number


def test_wrong_fields_are_named():
  for field in ("members", "noise_dim"):
    cfg = tiny.config()
    cfg.energy[field] = 0
    with pytest.raises(ValueError, match=f"energy.{field}"):
      make_forecaster("energy", cfg, tiny.SPEC, None)
  forecaster, _ = tiny.make("energy")
  assert forecaster.calls == 1
  with pytest.raises(ValueError, match="members is 1"):
    dataclasses.replace(forecaster, members=1)
