"""Scales of context and target, there and back."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from forecasting.forecaster import transforms

SPEC = tiny.SPEC


@pytest.fixture(name="data")
def fixture_data():
  data = tiny.batch(64)
  scale = 1 + jnp.arange(SPEC.channels)
  slot = 1 + jnp.arange(SPEC.tf)[:, None, None, None]
  context = 5 + data["context"] * scale
  future = context[:, -1:] + data["future"] * scale * slot
  return np.asarray(context), np.asarray(future)


@pytest.fixture(name="statistics")
def fixture_statistics(data):
  context, future = (x.astype(np.float64) for x in data)
  clip = np.concatenate([context, future], axis=1)
  residual = future - context[:, -1:]
  return types.SimpleNamespace(
    mean=clip.mean((0, 1, 2, 3)),
    std=clip.std((0, 1, 2, 3)),
    time_mean=clip.mean((0, 2, 3)),
    time_std=clip.std((0, 2, 3)),
    residual_std=residual.std((0, 2, 3)),
    element_mean=clip.mean(0),
    element_std=clip.std(0),
    linear_factor=np.linspace(-0.2, 0.5, SPEC.tf * SPEC.channels).reshape(
      SPEC.tf, SPEC.channels
    ),
    linear_std=1.5 * residual.std((0, 2, 3)),
  )


@pytest.mark.parametrize("stats", transforms.STATS)
@pytest.mark.parametrize("target", transforms.TARGET_TRANSFORMS)
def test_there_and_back(data, statistics, stats, target):
  context, future = data
  transform = transforms.make_transform(SPEC, statistics, stats, target)
  there = transform.future(future, context)
  back = transform.invert_future(there, context)
  np.testing.assert_allclose(back, future, rtol=1e-5, atol=1e-5)
  many = jnp.stack([there, 2 * there], axis=1)
  np.testing.assert_allclose(
    transform.invert_future(many, context)[:, 0], back, rtol=1e-6
  )


def test_scales_become_one(data, statistics):
  context, future = data
  transform = transforms.make_transform(SPEC, statistics)
  target = np.asarray(transform.future(future, context))
  np.testing.assert_allclose(target.std((0, 2, 3)), 1, atol=0.05)
  timed = transforms.make_transform(
    SPEC, statistics, "per_channel_time", "none"
  )
  both = np.concatenate(
    [timed.context(context), timed.future(future, context)], axis=1
  )
  np.testing.assert_allclose(both.mean((0, 2, 3)), 0, atol=1e-4)
  np.testing.assert_allclose(both.std((0, 2, 3)), 1, rtol=1e-4)


def test_residual_equals_that_of_standardized_latents(data, statistics):
  context, future = data
  standardized = (
    (future - statistics.mean) / statistics.std
    - (context[:, -1:] - statistics.mean) / statistics.std
  ) / (statistics.residual_std / statistics.std)[:, None, None]
  transform = transforms.make_transform(SPEC, statistics)
  np.testing.assert_allclose(
    transform.future(future, context), standardized, atol=1e-4
  )


def test_zero_residual_is_persistence_exactly(data, statistics):
  context, future = data
  transform = transforms.make_transform(SPEC, statistics)
  out = transform.invert_future(jnp.zeros_like(future), context)
  np.testing.assert_array_equal(
    out, np.broadcast_to(context[:, -1:], future.shape)
  )


def test_project_ln_puts_samples_on_the_shell(data, statistics):
  context, future = data
  transform = transforms.make_transform(
    SPEC, statistics, project_ln=True, target_transform="none"
  )
  out = np.asarray(transform.invert_future(future, context))
  np.testing.assert_allclose(out.mean(-1), 0, atol=1e-4)
  np.testing.assert_allclose(out.std(-1), 1, atol=1e-3)


def test_constant_channels_keep_their_scale(data, statistics):
  context, future = data
  statistics.std = statistics.std * 0
  statistics.residual_std = statistics.residual_std * 0
  transform = transforms.make_transform(SPEC, statistics)
  assert np.all(np.isfinite(transform.context(context)))
  np.testing.assert_allclose(
    transform.future(future, context), future - context[:, -1:], atol=1e-6
  )


def test_statistics_of_another_store_are_refused(statistics):
  statistics.residual_std = statistics.residual_std[:2]
  with pytest.raises(ValueError, match="Recompute them"):
    transforms.make_transform(SPEC, statistics)


def test_runs_under_jit(data, statistics):
  context, future = data
  transform = transforms.make_transform(SPEC, statistics)
  np.testing.assert_allclose(
    jax.jit(transform.future)(future, context),
    transform.future(future, context),
    rtol=1e-5,
    atol=1e-6,
  )


def test_residual_is_counted_from_the_extrapolation(data, statistics):
  context, future = data
  transform = transforms.make_transform(
    SPEC, statistics, target_transform="residual_linear"
  )
  out = transform.invert_future(jnp.zeros_like(future), context)
  speed = context[:, -1] - context[:, -2]
  for slot, factor in enumerate(statistics.linear_factor):
    expected = context[:, -1] + factor * speed
    np.testing.assert_allclose(out[:, slot], expected, rtol=1e-4, atol=1e-4)


def test_elements_are_standardized_each(data, statistics):
  context, future = data
  transform = transforms.make_transform(SPEC, statistics, "per_element", "none")
  both = np.concatenate(
    [transform.context(context), transform.future(future, context)], axis=1
  )
  np.testing.assert_allclose(both.mean(0), 0, atol=1e-4)
  np.testing.assert_allclose(both.std(0), 1, rtol=1e-3)


@pytest.mark.parametrize(
  ("stats", "target"),
  [("per_element", "none"), ("per_channel", "residual_linear")],
)
def test_what_statistics_lack_is_named(statistics, stats, target):
  del statistics.element_mean, statistics.linear_std
  with pytest.raises(ValueError, match="compute_scales"):
    transforms.make_transform(SPEC, statistics, stats, target)


def test_futures_without_target_are_left_alone(data, statistics):
  context, future = data
  plain = transforms.make_transform(SPEC, statistics, project_ln=True)
  bare = plain.without_target()
  np.testing.assert_array_equal(bare.context(context), plain.context(context))
  np.testing.assert_array_equal(bare.future(future, context), future)
  np.testing.assert_array_equal(bare.invert_future(future, context), future)
