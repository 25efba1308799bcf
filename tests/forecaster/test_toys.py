"""Trained forecasters where the true conditional distribution is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.registry import make_forecaster

STEPS, BATCH, SAMPLES = 2000, 256, 64


def _train(forecaster, make_batch, steps, learning_rate=3e-3):
  """Adam with warm-up and cosine decay on fresh data; returns the average."""
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, learning_rate, steps // 20, steps
  )
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

  def loss(params, key):
    batch = make_batch(jax.random.fold_in(key, 0), BATCH)
    return jnp.mean(
      forecaster.loss(params, batch, jax.random.fold_in(key, 1))[0]
    )

  def step(carry, key):
    params, average, state = carry
    grads = jax.grad(loss)(params, key)
    updates, state = optimizer.update(grads, state)
    params = optax.apply_updates(params, updates)
    average = optax.incremental_update(params, average, 0.01)
    return (params, average, state), None

  @jax.jit
  def run(params):
    carry = (params, params, optimizer.init(params))
    keys = jax.random.split(jax.random.key(1), steps)
    return jax.lax.scan(step, carry, keys)[0][1]

  return run(jax.jit(forecaster.init)(jax.random.key(0)))


def _draw(forecaster, params, data, num_samples):
  keys = jax.random.split(jax.random.key(2), len(data["context"]))
  draw = jax.jit(forecaster.sample, static_argnums=4)
  return np.asarray(
    draw(params, data["context"], data["times"], keys, num_samples),
    np.float64,
  )


def _config(**model):
  cfg = tiny.config(width=48, heads=3, patch=1, **model)
  cfg.sampler.steps = 16
  cfg.sampler.chunk = SAMPLES
  cfg.flow.context_dropout = 0.0
  cfg.flow.shift = "1"
  return cfg


def _energy_score(samples, truth):
  """Fair energy score over the flattened future, averaged over clips."""
  samples = samples.reshape(*samples.shape[:2], -1)
  truth = truth.reshape(len(truth), 1, -1)
  count = samples.shape[1]
  error = np.linalg.norm(samples - truth, axis=-1).mean()
  apart = np.linalg.norm(samples[:, :, None] - samples[:, None], axis=-1)
  return error - apart.sum((1, 2)).mean() / (2 * count * (count - 1))


@pytest.mark.slow
def test_linear_gaussian_process_is_learnt():
  # Linear in, linear out: tokens keep their size through the norms, and the
  # last calls, at levels that training hardly draws, read the data off z.
  cfg = _config(type_scale=4.0)
  cfg.flow.prediction = "edm"
  # 16 calls alone add 6 % of variance for an exact network, 32 calls 2 %.
  cfg.sampler.steps = 32
  spec = LatentSpec(tc=1, tf=2, h=1, w=1, channels=2)
  turn, noise = 0.6, 0.5
  matrix = 0.9 * np.array(
    [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], np.float32
  )

  def futures(key, last):
    steps = noise * jax.random.normal(key, (*last.shape[:-1], spec.tf, 2))
    states = []
    for k in range(spec.tf):
      last = last @ matrix.T + steps[..., k, :]
      states.append(last)
    return jnp.stack(states, -2)

  def make_batch(key, size):
    context = jax.random.normal(jax.random.fold_in(key, 0), (size, 1, 2))
    future = futures(jax.random.fold_in(key, 1), context[:, -1])
    return {
      "context": context[:, :, None, None],
      "future": future[:, :, None, None],
      "times": jnp.tile(0.1 * jnp.arange(3.0), (size, 1)),
    }

  forecaster = make_forecaster("flow", cfg, spec, None)
  params = _train(forecaster, make_batch, STEPS)
  data = make_batch(jax.random.key(3), 512)
  last = data["context"][:, -1, 0, 0]
  samples = _draw(forecaster, params, data, SAMPLES)[:, :, :, 0, 0]
  powers = [np.linalg.matrix_power(matrix, k + 1) for k in range(spec.tf)]
  mean = np.stack([np.asarray(last) @ power.T for power in powers], 1)
  error = samples.mean(1) - mean
  assert 1 - (error**2).mean() / mean.var() > 0.98
  # Cov = sum of matrix^k matrix^kT noise^2, here isotropic: 0.9^2k noise^2.
  variance = noise**2 * np.cumsum([0.81**k for k in range(spec.tf)])
  ratio = samples.var(1, ddof=1).mean((0, 2)) / variance
  assert np.all((ratio > 0.9) & (ratio < 1.1)), ratio
  repeated = jnp.repeat(last[:, None], SAMPLES, axis=1)
  exact = np.asarray(futures(jax.random.key(4), repeated), np.float64)
  truth = np.asarray(data["future"], np.float64)[:, :, 0, 0]
  scores = [_energy_score(x, truth) for x in (samples, exact)]
  assert scores[0] < 1.02 * scores[1]


_REACH = np.array([1.0, 2.0], np.float32)
_FORK = LatentSpec(tc=1, tf=2, h=1, w=1, channels=2)


def _fork(key, size, right=0.5):
  """Objects that go left or right."""
  context = jax.random.normal(jax.random.fold_in(key, 0), (size, 1, 1, 1, 2))
  side = jax.random.bernoulli(jax.random.fold_in(key, 1), right, (size,))
  offset = jnp.where(side, 1.0, -1.0)[:, None] * _REACH
  change = jnp.stack([offset, jnp.zeros_like(offset)], -1)
  return {
    "context": context,
    "future": context + change[:, :, None, None],
    "times": jnp.tile(0.1 * jnp.arange(3.0), (size, 1)),
  }


def _way(name, cfg, steps, right=0.5):
  """Trains, and returns how far samples go, over how far objects go."""
  forecaster = make_forecaster(name, cfg, _FORK, None)
  make_batch = functools.partial(_fork, right=right)
  params = _train(forecaster, make_batch, steps)
  data = _fork(jax.random.key(3), 128)
  samples = _draw(forecaster, params, data, SAMPLES)
  moves = samples - np.asarray(data["context"])[:, None]
  return moves[..., 0, 0, 0] / _REACH


def _shares(way):
  """Returns which shares of samples go right and left."""
  return [np.all(np.abs(way - side) < 0.3, axis=-1).mean() for side in (1, -1)]


def _assert_both_branches(way):
  right, left = _shares(way)
  assert 0.35 < right < 0.65 and 0.35 < left < 0.65, (right, left)
  assert 1 - right - left < 0.05, (right, left)


@pytest.mark.slow
def test_fork_is_averaged_by_regression():
  assert np.abs(_way("regression", _config(), 1000)).max() < 0.3


@pytest.mark.slow
def test_fork_is_kept_open_by_flow():
  _assert_both_branches(_way("flow", _config(), 1000))


@pytest.mark.slow
def test_fork_is_kept_open_by_energy():
  cfg = _config()
  # One norm for both slots: otherwise nothing ties their branches together.
  cfg.energy.update(noise_dim=4, norm="clip")
  _assert_both_branches(_way("energy", cfg, 2000))


@pytest.mark.slow
def test_fork_is_evened_out_by_best_of_many():
  """Of 4 to 1 it makes the third root of 4 to 1, as the minimum has it."""
  cfg = _config()
  cfg.best_of_many.update(noise_dim=4, members=4, norm="clip")
  right, left = _shares(_way("best_of_many", cfg, 2000, right=0.8))
  share = 4 ** (1 / 3) / (1 + 4 ** (1 / 3))
  assert abs(right - share) < 0.06 and abs(left - (1 - share)) < 0.06
