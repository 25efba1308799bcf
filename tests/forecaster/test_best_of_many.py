"""The forecaster that learns from the best of its samples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy

from forecasting.forecaster.architecture import DenoiserConfig
from forecasting.forecaster.best_of_many import BestOfManyForecaster
from forecasting.forecaster.objective import example_keys
from forecasting.forecaster.registry import make_forecaster
from forecasting.forecaster.transforms import make_transform

KEY = jax.random.key(1)
SIZE, MEMBERS = 6, 4


@pytest.fixture(scope="module", name="data")
def fixture_data():
  ids = jnp.arange(20, 20 + SIZE, dtype=jnp.uint32)
  return tiny.batch(SIZE) | {"example_id": ids}


@pytest.fixture(scope="module", name="made")
def fixture_made():
  cfg = tiny.config(depth=1)
  cfg.best_of_many.members = MEMBERS
  forecaster = make_forecaster("best_of_many", cfg, tiny.SPEC, None)
  return forecaster, tiny.random_params(forecaster)


@pytest.fixture(scope="module", name="drawn")
def fixture_drawn(made, data):
  """Losses and what is logged, for the data and for the same turned round.

  Also the gradient of the losses' sum.
  """
  forecaster, params = made

  def total(params, data):
    losses, aux = forecaster.loss(params, data, KEY)
    return jnp.sum(losses), (losses, aux)

  grad = jax.jit(jax.grad(total, has_aux=True))
  turned = {name: value[::-1] for name, value in data.items()}
  grads, (losses, aux) = grad(params, data)
  _, (others, _) = grad(params, turned)
  return np.asarray(losses), np.asarray(others)[::-1], aux, grads


@pytest.fixture(scope="module", name="measure")
def fixture_measure(made, data):
  """Distances of what `sample` draws with the keys of the loss."""
  forecaster, _ = made
  sample = jax.jit(forecaster.sample, static_argnums=4)
  keys = example_keys(data, KEY)
  truth = np.asarray(data["future"], np.float64)[:, None]

  def measure(params):
    members = sample(params, data["context"], data["times"], keys, MEMBERS)
    error = np.asarray(members, np.float64) - truth
    return np.sqrt((error**2).sum(-1)).mean((2, 3, 4))

  return measure


def test_the_nearest_sample_of_each_example_is_its_loss(made, drawn, measure):
  losses, turned, aux, _ = drawn
  distances = measure(made[1])
  assert len(set(distances.argmin(1))) > 1
  for found in (losses, turned):
    np.testing.assert_allclose(found, distances.min(1), rtol=1e-5)
  np.testing.assert_allclose(aux["mean_distance"], distances.mean(), rtol=1e-5)


def test_only_the_best_samples_move_the_parameters(made, drawn, measure):
  """Finite differences of samples, along one direction of the parameters."""
  _, params = made
  rng, step = np.random.default_rng(3), 1e-3
  way = jax.tree.map(lambda x: tiny.normal(rng, *x.shape), params)
  ahead = measure(jax.tree.map(lambda x, d: x + step * d, params, way))
  behind = measure(jax.tree.map(lambda x, d: x - step * d, params, way))
  slopes = (ahead - behind) / (2 * step)
  best = measure(params).argmin(1)
  expected = slopes[np.arange(SIZE), best].sum()
  pairs = zip(jax.tree.leaves(drawn[-1]), jax.tree.leaves(way), strict=True)
  found = sum(float(np.vdot(gradient, d)) for gradient, d in pairs)
  np.testing.assert_allclose(found, expected, rtol=1e-2)
  assert abs(slopes.mean(1).sum() / expected - 1) > 0.1


def _scaled(members, norm="token"):
  """A forecaster whose members are their noise times a parameter."""
  spec = dataclasses.replace(tiny.SPEC, tf=1, h=1, w=1)
  sizes = DenoiserConfig(
    width=24, depth=1, heads=2, condition_dim=spec.channels
  )
  forecaster = BestOfManyForecaster(
    spec,
    toy.Scaled(sizes, spec.channels),
    make_transform(spec, None, target_transform="none"),
    members,
    norm,
    chunk=3,
  )
  return forecaster, tiny.batch(SIZE, spec)


def _noise(members, channels):
  """What the loss draws without identities, one number at a time."""
  fold = jax.random.fold_in
  return np.stack(
    [
      [
        jax.random.normal(fold(fold(KEY, b), m), (channels,))
        for m in range(members)
      ]
      for b in range(SIZE)
    ]
  ).astype(np.float64)


# Where it is zero all members agree, but not where they would go.
SCALES = np.array([0.7, 0.7, 1.5, -0.4, 0.0, 0.0])


@pytest.fixture(scope="module", name="by_example")
def fixture_by_example():
  """Losses and gradients with a parameter for each example."""
  forecaster, data = _scaled(MEMBERS)

  def total(scales):
    scale = scales[:, None, None, None, None, None]
    losses, _ = forecaster.loss({"scale": scale}, data, KEY)
    return jnp.sum(losses), losses

  grad = jax.jit(jax.grad(total, has_aux=True))
  gradients, losses = grad(jnp.asarray(SCALES, jnp.float32))
  truth = np.asarray(data["future"], np.float64)[:, 0, 0, 0]
  return losses, gradients, _noise(MEMBERS, truth.shape[-1]), truth


def test_loss_and_gradient_by_hand(by_example):
  """d |a n - y| / da = n (a n - y) / |a n - y| of the nearest a n."""
  losses, gradients, noise, truth = by_example
  chosen = set()
  for b in range(4):
    errors = SCALES[b] * noise[b] - truth[b]
    far = np.linalg.norm(errors, axis=1)
    i = far.argmin()
    chosen.add(i)
    np.testing.assert_allclose(losses[b], far[i], rtol=1e-5)
    expected = noise[b, i] @ errors[i] / far[i]
    np.testing.assert_allclose(gradients[b], expected, rtol=1e-4, atol=1e-5)
  assert len(chosen) > 1


def test_of_equal_members_the_first_learns(by_example):
  losses, gradients, noise, truth = by_example
  for b in (4, 5):
    length = np.linalg.norm(truth[b])
    np.testing.assert_allclose(losses[b], length, rtol=1e-5)
    expected = -noise[b, 0] @ truth[b] / length
    np.testing.assert_allclose(gradients[b], expected, rtol=1e-4)


def test_loss_depends_on_members_but_not_on_batch_or_chunk():
  few, data = _scaled(3)
  more, _ = _scaled(8)
  losses = lambda forecaster, data: np.asarray(  # noqa: E731
    jax.jit(forecaster.loss)({"scale": 0.7}, data, KEY)[0]
  )
  one, two = losses(few, data), losses(more, data)
  assert np.all(two <= one) and np.any(two < one)
  whole = dataclasses.replace(more, chunk=8)
  np.testing.assert_array_equal(losses(whole, data), two)
  part = {name: value[:2] for name, value in data.items()}
  np.testing.assert_array_equal(losses(more, part), two[:2])


def test_wrong_fields_are_named():
  for field in ("members", "noise_dim"):
    cfg = tiny.config()
    cfg.best_of_many[field] = 0
    with pytest.raises(ValueError, match=f"best_of_many.{field}"):
      make_forecaster("best_of_many", cfg, tiny.SPEC, None)
  with pytest.raises(ValueError, match="members is 1"):
    _scaled(1)
  with pytest.raises(ValueError, match=r"best_of_many\.norm is 'slot'"):
    _scaled(2, "slot")
