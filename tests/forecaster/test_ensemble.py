"""Several trainings of one forecaster."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy

from forecasting.forecaster import registry
from forecasting.forecaster.ensemble import DeepEnsemble

SPEC = tiny.SPEC
PARAMS = {f"member_{i}": {"offset": jnp.float32(100 * i)} for i in range(3)}


def _sample(ensemble, num_samples, rows=slice(None)):
  data = tiny.batch(3)
  keys = jax.random.split(jax.random.key(0), 3)[rows]
  context = 0 * data["context"][rows]
  out = ensemble.sample(PARAMS, context, data["times"][rows], keys, num_samples)
  return np.asarray(out)[..., 0, 0, 0, 0]


def test_samples_are_split_equally_and_stay_when_there_are_more():
  ensemble = DeepEnsemble(toy.Toy(SPEC), 3)
  ten = _sample(ensemble, 10)
  assert ten.shape == (3, 10)
  members = np.round(ten / 100).astype(int)
  np.testing.assert_array_equal(members, np.tile(np.arange(10) % 3, (3, 1)))
  np.testing.assert_array_equal(_sample(ensemble, 4), ten[:, :4])
  np.testing.assert_array_equal(_sample(ensemble, 4, slice(1, 2)), ten[1:2, :4])
  assert len(np.unique((ten - 100 * members).round(5))) == 30


def test_no_future_is_drawn_that_is_not_returned():
  flow = registry.make_forecaster("flow", tiny.config(), SPEC, None)
  network = toy.Counting(flow.network.config, SPEC.channels)
  flow = dataclasses.replace(flow, network=network, chunk=5)
  pooled = DeepEnsemble(flow, 4)
  params = {f"member_{i}": {} for i in range(4)}
  data = tiny.batch(2)
  keys = jax.random.split(jax.random.key(0), 2)
  inputs = data["context"], data["times"], keys
  for number in (10, 3):
    count = toy.count_rows(pooled, params, *inputs, number)
    assert count == 2 * number * pooled.calls


def test_samples_are_those_of_the_members_alone():
  """Chunks that fit draw what a chunk that is cut does."""
  flow, params = tiny.make()
  other = jax.tree.map(lambda x: 0.9 * x, params)
  pooled = DeepEnsemble(flow, 2)
  data, keys = tiny.batch(2), jax.random.split(jax.random.key(0), 2)
  draw = jax.jit(pooled.sample, static_argnums=4)
  both = {"member_0": params, "member_1": other}
  out = draw(both, data["context"], data["times"], keys, 3)
  alone = jax.jit(flow.sample, static_argnums=4)
  for member, own in enumerate((params, other)):
    fold = jax.vmap(pooled._key, (0, None))(keys, member)
    expected = alone(own, data["context"], data["times"], fold, 2)
    found = out[:, member::2]
    np.testing.assert_allclose(found, expected[:, : found.shape[1]], atol=1e-5)


def test_members_that_give_one_future_are_the_samples():
  ensemble = DeepEnsemble(toy.Toy(SPEC, 0.0, deterministic=True), 3)
  np.testing.assert_array_equal(_sample(ensemble, 10), [[0, 100, 200]] * 3)
  assert not ensemble.deterministic


def test_members_start_apart_and_share_the_loss():
  ensemble = DeepEnsemble(toy.Toy(SPEC), 3)
  key = jax.random.key(5)
  params = ensemble.init(key)
  offsets = [float(p["offset"]) for p in params.values()]
  assert len(set(offsets)) == 3
  assert offsets[0] == float(toy.Toy(SPEC).init(key)["offset"])
  batch = tiny.batch(2)
  losses, aux = ensemble.loss(params, batch, key)
  mean = np.asarray(batch["future"]).mean((1, 2, 3, 4))
  np.testing.assert_allclose(losses, np.mean(offsets) * mean, rtol=1e-4)
  np.testing.assert_allclose(aux["mean"], mean.mean(), rtol=1e-4)


def test_no_member_is_refused():
  with pytest.raises(ValueError, match=r"forecaster\.ensemble is 0"):
    DeepEnsemble(toy.Toy(SPEC), 0)
