"""Several trainings of one forecaster."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy

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
