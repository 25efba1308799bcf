"""One step: its numbers, its keys, its metrics."""

import functools
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_run

from forecasting.training import steps
from forecasting.training.mesh import make_mesh, shard_batch

# Update these only for a change that is meant to alter training: initial
# parameters, keys, optimizer or schedule.
GOLDEN = {
  "loss": (0.973621, 1.008733, 1.019370),
  "grad_norm": (0.700172, 0.729323, 0.735286),
  "param_norm": (1.161631, 1.187911, 1.221003),
}


@pytest.fixture(scope="module")
def trajectory():
  """Returns the metrics of the first three steps."""
  mesh, trainee = make_mesh(), toy_run.trainee()
  state = trainee.create_state(mesh, trainee.key(seed=5))
  step_fn = steps.compile_step(trainee, mesh)
  rows, data = [], toy_run.batches()
  for _ in range(3):
    batch = shard_batch(next(data), mesh)
    state, metrics = step_fn(state, batch, trainee.key(seed=5))
    rows.append({k: float(v) for k, v in metrics.items()})
  return rows


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_steps(trajectory, name):
  found = [row[name] for row in trajectory]
  np.testing.assert_allclose(
    found,
    GOLDEN[name],
    rtol=1e-4,
    err_msg="training changed: update GOLDEN only if that was the purpose",
  )


def test_metrics_hold_the_scalars_of_the_loss(trajectory):
  assert set(trajectory[0]) == {"mse", *GOLDEN, "learning_rate"}
  assert trajectory[0]["mse"] == trajectory[0]["loss"]


def test_step_draws_with_the_documented_key():
  seen = {}

  def loss(params, batch, key):
    value = jax.random.uniform(key)
    return value + 0.0 * params["w"], {"draw": value}

  trainee = toy_run.trainee(
    "probe", init=lambda key: {"w": jnp.zeros(())}, loss=loss
  )
  mesh = make_mesh()
  state = trainee.create_state(mesh, trainee.key(seed=7))
  step_fn = steps.compile_step(trainee, mesh)
  for k in range(3):
    state, metrics = step_fn(state, {}, trainee.key(seed=7))
    own = jax.random.fold_in(jax.random.key(7), zlib.crc32(b"probe"))
    expected = jax.random.uniform(jax.random.fold_in(own, k))
    assert float(metrics["draw"]) == float(expected)
    seen[k] = float(expected)
  assert len(set(seen.values())) == 3


def test_state_is_donated():
  trainee, mesh = toy_run.trainee(), make_mesh()
  state = trainee.create_state(mesh, trainee.key(0))
  batch = shard_batch(next(toy_run.batches()), mesh)
  steps.compile_step(trainee, mesh)(state, batch, trainee.key(0))
  assert state.params["dense"]["kernel"].is_deleted()
  assert state.ema["dense"]["kernel"].is_deleted()


@pytest.mark.parametrize(("warm_up", "taken"), [(True, 0.9), (False, 0.1)])
def test_average_takes_its_share_of_the_first_update(warm_up, taken):
  trainee, mesh = toy_run.trainee(ema_warm_up=warm_up), make_mesh()
  state = trainee.create_state(mesh, trainee.key(0))
  before = jax.device_get(state.params)
  batch = shard_batch(next(toy_run.batches()), mesh)
  state, _ = steps.compile_step(trainee, mesh)(state, batch, trainee.key(0))
  expected = jax.tree.map(
    lambda old, new: old + taken * (new - old), before, state.params
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-9),
    jax.device_get(state.ema),
    jax.device_get(expected),
  )


def test_parts_of_a_batch_train_like_the_whole():
  """And the loss never sees more than a part."""
  seen = set()

  def loss(params, batch, key):
    del key
    seen.add(batch["x"].shape[0])
    error = jnp.square(jnp.tanh(batch["x"] @ params["kernel"]) - batch["x"])
    return error.mean(), {"largest": error.mean(axis=1).sum()}

  def init(key):
    return {"kernel": jax.random.normal(key, (toy_run.WIDTH, 256)) / 16}

  mesh, batch = make_mesh(), next(toy_run.batches())
  results = []
  for accumulate in (1, 4):
    seen.clear()
    trainee = toy_run.trainee(init=init, loss=loss, accumulate=accumulate)
    state = trainee.create_state(mesh, trainee.key(0))
    step_fn = steps.compile_step(trainee, mesh)
    for _ in range(2):
      placed = shard_batch(batch, mesh)
      state, metrics = step_fn(state, placed, trainee.key(0))
    assert seen == {8 // accumulate}
    results.append((jax.device_get(state.params), metrics))
  (whole, expected), (parts, found) = results
  np.testing.assert_allclose(parts["kernel"], whole["kernel"], atol=1e-6)
  for name in ("loss", "grad_norm", "param_norm"):
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
  # Scalars are means over parts, sums of examples included.
  np.testing.assert_allclose(4 * found["largest"], expected["largest"], 1e-5)


@pytest.mark.parametrize("is_named", [False, True])
def test_compilation_cache_is_filled(tmp_path, is_named):
  program = """
import sys, jax, jax.numpy as jnp
from pathlib import Path
from forecasting.training.steps import enable_compilation_cache
enable_compilation_cache(sys.argv[1] or None, Path(sys.argv[2]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: x * 3.25 + 1.5)(jnp.ones(7)).block_until_ready()
"""
  folder = tmp_path / ("shared" if is_named else "compiled")
  named = folder if is_named else ""
  subprocess.run([sys.executable, "-c", program, named, tmp_path], check=True)
  assert list(folder.glob("*"))
  assert [path.name for path in tmp_path.iterdir()] == [folder.name]
