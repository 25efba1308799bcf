"""Forecasts around two regressions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy

from forecasting.forecaster.architecture import DenoiserConfig
from forecasting.forecaster.regression import RegressionForecaster
from forecasting.forecaster.residual import ResidualForecaster
from forecasting.forecaster.transforms import make_transform

SPEC = tiny.SPEC


@pytest.fixture(name="forecaster")
def fixture_forecaster():
  network = toy.Constant(DenoiserConfig(24, 2, 2), SPEC.channels)
  transform = make_transform(SPEC, None)
  regression = RegressionForecaster(SPEC, network, transform)
  return ResidualForecaster(toy.Toy(SPEC, noise=0.0), regression)


def _params(even=1.0, odd=-2.0, offset=0.0, log_scale=0.0):
  return {
    "inner": {"offset": jnp.float32(offset)},
    "regressions": {
      "even": {"value": jnp.float32(even)},
      "odd": {"value": jnp.float32(odd)},
    },
    "log_scale": jnp.full((SPEC.tf, SPEC.channels), log_scale),
  }


def _batch(*ids):
  ids = jnp.array(ids, jnp.uint32)
  return tiny.batch(len(ids)) | {"example_id": ids}


def _change(batch):
  return np.asarray(batch["future"] - batch["context"][:, -1:])


def test_errors_are_those_of_the_regression_that_did_not_see_the_clip(
  forecaster,
):
  batch = _batch(4, 7, 9)
  seen = {}

  class Spy(toy.Toy):
    def loss(self, params, batch, key):
      seen.update(batch)
      return super().loss(params, batch, key)

  spied = ResidualForecaster(Spy(SPEC), forecaster.regression)
  spied.loss(_params(log_scale=np.log(2.0)), batch, jax.random.key(0))
  other = np.array([-2.0, 1.0, 1.0])[:, None, None, None, None]
  np.testing.assert_allclose(
    seen["future"], (_change(batch) - other) / 2, rtol=1e-5, atol=1e-5
  )


def test_a_clip_trains_its_own_regression_alone(forecaster):
  params = _params(offset=3.0)
  gradient = jax.grad(
    lambda p, b: jnp.sum(forecaster.loss(p, b, jax.random.key(0))[0])
  )
  for ids, own, other in (((2, 4), "even", "odd"), ((3, 5), "odd", "even")):
    batch = _batch(*ids)
    found = gradient(params, batch)["regressions"]
    assert found[other]["value"] == 0
    value = params["regressions"][own]["value"]
    expected = 2 * (value - _change(batch)).mean() * len(ids)
    np.testing.assert_allclose(found[own]["value"], expected, rtol=1e-4)


def test_deviation_is_the_root_mean_square_of_unseen_errors(forecaster):
  batch = _batch(0, 2, 4, 6)
  error = _change(batch) + 2.0
  params = _params()
  params["log_scale"] = jnp.log(np.sqrt((error**2).mean((0, 2, 3))))
  gradient = jax.grad(
    lambda p: jnp.sum(forecaster.loss(p, batch, jax.random.key(0))[0])
  )(params)["log_scale"]
  np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_samples_lie_around_either_regression(forecaster):
  batch = _batch(1, 2)
  # The forecaster within continues lines: constant context gives it a last
  # slot, and an offset to scale.
  context = jnp.ones_like(batch["context"])
  params = _params(offset=0.5, log_scale=np.log(3.0))
  keys = jax.random.split(jax.random.key(0), 2)
  out = forecaster.sample(params, context, batch["times"], keys, 64)
  levels = np.asarray(out)[..., 0, 0, 0, 0]
  # last slot 1, plus a regression, plus 3 times the error 1.5.
  even, odd = 1 + 1 + 4.5, 1 - 2 + 4.5
  hits = np.isclose(levels, even, atol=1e-4)
  assert np.all(hits | np.isclose(levels, odd, atol=1e-4))
  assert 0.3 < hits.mean() < 0.7
  few = forecaster.sample(params, context[:1], batch["times"][:1], keys[:1], 3)
  np.testing.assert_allclose(few, out[:1, :3], rtol=1e-5)
