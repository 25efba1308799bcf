"""Streaming with noise that rises with lead time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy

from forecasting.forecaster import objective, pyramid, registry, schedule
from forecasting.forecaster.base import LatentSpec

SPEC = LatentSpec(tc=2, tf=3, h=1, w=1, channels=2)


def _walk(**fields):
  """A stream of a random walk, its denoiser exact."""
  cfg = tiny.config(patch=1)
  cfg.sampler.update(steps=24, chunk=1)
  flow = registry.make_forecaster("flow", cfg, SPEC, None)
  network = toy.RandomWalk(flow.network.config, SPEC.channels)
  return pyramid.Pyramid(dataclasses.replace(flow, network=network), **fields)


def test_levels_rise_and_each_slot_falls_to_the_one_before():
  start, end = schedule.ladder(jnp.array([0.0, 1.0]), 4)
  assert np.all(np.diff(start) > 0) and end[0] == 0
  np.testing.assert_allclose(start[-1], 0.998, rtol=1e-5)
  np.testing.assert_allclose(end[1:], start[:-1], rtol=1e-4)
  levels = np.asarray(schedule.ladder(jnp.linspace(0, 0.99, 50), 4))
  assert np.all(np.diff(levels, axis=0) < 0) and levels.min() > 0.004


def test_a_random_walk_goes_on_beyond_the_window():
  stream = _walk(slots=8, steps_per_slot=16)
  count = 512
  rng = np.random.default_rng(0)
  context = jnp.asarray(tiny.normal(rng, 1, 2, 1, 1, 2))
  times = jnp.arange(5.0)[None]
  draw = jax.jit(stream.sample, static_argnums=4)
  out = draw({}, context, times, jax.random.split(jax.random.key(0), 1), count)
  walk = np.asarray(out, np.float64)[0, :, :, 0, 0]
  last = np.asarray(context)[0, -1, 0, 0]
  steps = np.diff(walk, axis=1, prepend=np.broadcast_to(last, (count, 1, 2)))
  # Four standard errors of the mean and the deviation, and what first-order
  # steps in log-SNR lose at this number of them: some per cent.
  assert np.abs(steps.mean((0, 2))).max() < 4 / 32
  np.testing.assert_allclose(steps.std((0, 2)), 1, atol=0.08 + 4 / 45)
  flat = steps.transpose(1, 0, 2).reshape(8, -1)
  others = np.corrcoef(flat) - np.eye(8)
  assert np.abs(others).max() < 0.15


def test_a_slot_at_a_time_equals_all_at_once():
  stream = _walk(slots=4, steps_per_slot=2)
  context = jnp.zeros((2, 2, 1, 1, 2))
  times = jnp.tile(jnp.arange(5.0), (2, 1))
  keys = jax.random.split(jax.random.key(0), 2)
  whole = stream.sample({}, context, times, keys, 2)
  assert whole.shape == (2, 2, 4, 1, 1, 2)
  own = jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
  state, slots = stream.start({}, context, times, own), []
  for _ in range(3):
    state, slot = stream.advance({}, state, times)
    slots.append(slot)
  np.testing.assert_allclose(
    np.stack(slots, 1), whole[:, 1, :3], rtol=1e-3, atol=1e-4
  )
  assert stream.calls == 24 + 4 * 3


def test_no_future_is_drawn_that_is_not_returned():
  stream = _walk(slots=4, steps_per_slot=2)
  network = toy.Counting(stream.inner.network.config, SPEC.channels)
  inner = dataclasses.replace(stream.inner, network=network, chunk=5)
  stream = dataclasses.replace(stream, inner=inner)
  inputs = (
    jnp.zeros((2, 2, 1, 1, 2)),
    jnp.tile(jnp.arange(5.0), (2, 1)),
    jax.random.split(jax.random.key(0), 2),
  )
  assert toy.count_rows(stream, {}, *inputs, 3) == 2 * 3 * stream.calls


def _asked(name="flow", **fields):
  cfg = tiny.config()
  cfg.horizon.mode, cfg.flow.rolling = "pyramid", 0.5
  cfg.update_from_flattened_dict(fields)
  return name, cfg, tiny.SPEC, None, 2


@pytest.mark.parametrize(
  ("name", "fields", "word"),
  [
    ("flow", {"flow.rolling": 0.0}, r"flow\.rolling is 0"),
    ("ddpm", {}, "'ddpm' is never trained"),
    (
      "flow",
      {"normalize.target_transform": "residual_model"},
      r"normalize\.target_transform is 'residual_model'",
    ),
    ("flow", {"horizon.mode": "stream"}, "'stream': one of"),
  ],
)
def test_a_stream_that_cannot_be_is_refused(name, fields, word):
  with pytest.raises(ValueError, match=rf"forecaster\.horizon\.mode.*{word}"):
    registry.make_forecaster(*_asked(name, **fields))


def test_components_are_not_streamed():
  _, cfg, *_ = _asked(compress="pca(4)")
  with pytest.raises(ValueError, match=r"horizon\.mode.*forecaster\.compress"):
    registry.check_horizon("flow", cfg)
  # These have no noise that could rise: they are rolled out.
  for name in ("regression", "energy", "shortcut"):
    registry.check_horizon(name, cfg)
  cfg.update(compress="none")
  registry.check_horizon("flow", cfg)


def test_some_training_draws_have_rising_levels():
  cfg = tiny.config()
  cfg.flow.update(rolling=0.5, noise_multiplicity=64)
  flow = registry.make_forecaster("flow", cfg, tiny.SPEC, None)
  keys = jax.random.split(jax.random.key(0), (2, 64))
  levels = np.asarray(flow._some_rolling(jnp.full((2, 64), 0.3), keys))
  equal = np.all(levels == np.float32(0.3), axis=-1)
  assert 0.3 < equal.mean() < 0.7
  assert np.all(np.diff(levels[~equal], axis=-1) > 0)
  with pytest.raises(ValueError, match=r"flow\.rolling"):
    dataclasses.replace(flow, rolling=1.5)


def test_loss_of_levels_per_slot_is_the_mean_of_its_slots():
  rng = np.random.default_rng(2)
  x0 = tiny.normal(rng, 3, 2, 2, 2, 4)
  eps, answer = (tiny.normal(rng, 3, 2, 2, 2, 2, 4) for _ in range(2))
  t = jnp.asarray(rng.uniform(0.1, 0.9, (3, 2, 2)).astype(np.float32))
  losses, errors = objective.diffusion_loss(
    lambda z, levels: answer, schedule.LINEAR, "x0", "v", x0, eps, t
  )
  square = np.square(answer - x0[:, None]).mean((3, 4, 5))
  np.testing.assert_allclose(errors, square.mean((1, 2)), rtol=1e-5)
  weighted = square / np.square(np.asarray(t))
  np.testing.assert_allclose(losses, weighted.mean((1, 2)), rtol=1e-5)


def test_steps_are_checked():
  with pytest.raises(ValueError, match="steps_per_slot"):
    _walk(slots=2, steps_per_slot=0)
