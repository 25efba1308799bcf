"""The masked forecaster."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from forecasting.forecaster import masked
from forecasting.forecaster.registry import make_forecaster


def test_smooth_l1_meets_in_value_and_slope():
  errors = np.array([-2.0, -0.5, -0.1, 0.0, 0.3, 0.5, 4.0], np.float32)
  found = masked.smooth_l1(jnp.asarray(errors), 0.5)
  expected = [e * e if abs(e) < 0.5 else abs(e) - 0.25 for e in errors]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  slope = jax.grad(lambda e: masked.smooth_l1(e, 0.5))
  np.testing.assert_allclose([slope(0.4999), slope(0.5001)], 1, atol=1e-3)


def test_the_future_is_filled_in_from_the_token_and_read_by_the_context():
  forecaster, params = tiny.make("masked")
  data = tiny.batch(2)
  predict = jax.jit(forecaster.predict)
  answer = predict(params, data["context"], data["times"])
  other = params | {"mask_token": params["mask_token"] + 1.0}
  changed = predict(other, data["context"], data["times"])
  assert np.all(np.abs(answer - changed).max((2, 3, 4)) > 1e-4)
  # Slots of one token differ by their place in time alone.
  assert np.abs(np.diff(answer, axis=1)).max() > 1e-4
  assert forecaster.network.config.conditioning == "joint_full"
  assert forecaster.network.config.attention == "factorized"


def test_loss_is_that_of_the_answer():
  forecaster, params = tiny.make("masked")
  data = tiny.batch(2)
  answer = jax.jit(forecaster.predict)(params, data["context"], data["times"])
  error = np.asarray(answer - (data["future"] - data["context"][:, -1:]))
  losses, aux = jax.jit(forecaster.loss)(params, data, jax.random.key(0))
  size = np.abs(error)
  values = np.where(size < 0.1, error**2 / 0.2, size - 0.05)
  np.testing.assert_allclose(losses, values.mean((1, 2, 3, 4)), rtol=1e-5)
  np.testing.assert_allclose(aux["x0_error"], (error**2).mean(), rtol=1e-5)


def test_beta_is_checked():
  cfg = tiny.config()
  cfg.masked.beta = 0.0
  with pytest.raises(ValueError, match=r"masked\.beta"):
    make_forecaster("masked", cfg, tiny.SPEC, None)
