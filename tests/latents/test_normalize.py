"""Statistics against two float64 passes over all latents at once."""

import jax
import numpy as np
import pytest
from noise_store import NUM_CLIPS, make_example

from forecasting.latents import normalize
from forecasting.latents.normalize import StatsAccumulator, StatsError
from forecasting.latents.store import LatentStore

# forecaster.md test 13.
TOLERANCE = 1e-6


def noisy(count, seed=0):
  """Returns context and future whose means dwarf some of their deviations."""
  rng = np.random.default_rng(seed)
  scale, shift = np.logspace(-3, 1, 6), np.linspace(-100, 100, 6)
  context = rng.normal(size=(count, 2, 3, 2, 6)) * scale + shift
  growth = np.arange(1, 4)[:, None, None, None]
  steps = growth * rng.normal(size=(count, 3, 3, 2, 6)) * scale
  future = context[:, -1:] + steps + growth
  return context.astype(np.float32), future.astype(np.float32)


def two_pass(context, future):
  """Returns the statistics, straight from their definitions."""
  sequence = np.concatenate([context, future], 1).astype(np.float64)
  residual = future.astype(np.float64) - context[:, -1:].astype(np.float64)
  pooled, each = (0, 1, 2, 3), (0, 2, 3)
  return normalize.LatentStats(
    sequence.mean(pooled),
    sequence.std(pooled),
    sequence.mean(each),
    sequence.std(each),
    residual.mean(each),
    residual.std(each),
  )


def accumulate(context, future, batch_size, order):
  """Returns the statistics from batches of permuted clips."""
  accumulator = StatsAccumulator()
  for start in range(0, len(order), batch_size):
    rows = order[start : start + batch_size]
    accumulator = accumulator.update(context[rows], future[rows])
  return accumulator.finish()


def assert_close(found, expected, tolerance):
  for name, a, b in zip(found._fields, found, expected):
    np.testing.assert_allclose(a, b, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_statistics_equal_two_passes(batch_size):
  context, future = noisy(50)
  found = accumulate(context, future, batch_size, np.arange(50))
  assert_close(found, two_pass(context, future), TOLERANCE)
  # The lead slots differ, so mixing them up would be seen.
  assert np.all(np.diff(found.residual_std, axis=0) > 0)
  assert all(value.dtype == np.float32 for value in found)


def test_order_and_batches_do_not_matter():
  context, future = noisy(40)
  orders = [np.random.default_rng(k).permutation(40) for k in range(3)]
  reference = accumulate(context, future, 40, np.arange(40))
  for order, batch_size in zip(orders, (1, 9, 40)):
    found = accumulate(context, future, batch_size, order)
    assert_close(found, reference, TOLERANCE)


def test_accumulators_of_hosts_merge():
  context, future = noisy(30)
  parts = [slice(0, 3), slice(3, 30)]
  first, second = (
    StatsAccumulator().update(context[part], future[part]) for part in parts
  )
  expected = two_pass(context, future)
  assert_close(first.merge(second).finish(), expected, TOLERANCE)
  empty = StatsAccumulator()
  assert_close(empty.merge(first).merge(second).finish(), expected, TOLERANCE)


def test_a_constant_channel_has_deviation_one():
  context, future = np.ones((4, 2, 1, 1, 3)), np.full((4, 3, 1, 1, 3), 1.0)
  found = StatsAccumulator().update(context, future).finish()
  for std in (found.std, found.time_std, found.residual_std):
    np.testing.assert_array_equal(std, 1)


def test_standardizing_gives_mean_zero_and_deviation_one():
  context, future = noisy(50)
  found = accumulate(context, future, 50, np.arange(50))
  sequence = np.concatenate([context, future], 1).astype(np.float64)
  standard = (sequence - found.mean) / found.std
  np.testing.assert_allclose(standard.std((0, 1, 2, 3)), 1, rtol=1e-5)
  np.testing.assert_allclose(standard * found.std + found.mean, sequence)


def test_nothing_seen_is_an_error():
  with pytest.raises(StatsError, match="no latents"):
    StatsAccumulator().finish()


def test_statistics_are_a_pytree():
  stats = StatsAccumulator().update(*noisy(3)).finish()
  assert len(jax.tree.leaves(stats)) == 6
  doubled = jax.jit(lambda s: jax.tree.map(lambda x: 2 * x, s))(stats)
  np.testing.assert_array_equal(doubled.residual_std, 2 * stats.residual_std)


def store_two_pass(rows):
  clips = np.stack([make_example(i)["clip"] for i in rows])
  context = np.stack([make_example(i)["context"] for i in rows])
  return two_pass(context, clips[:, 2:])


def test_statistics_of_a_store_use_context_then_future(write):
  found = normalize.compute_stats(write(), batch_size=3)
  assert_close(found, store_two_pass(range(NUM_CLIPS)), 1e-5)


def test_statistics_are_kept_with_the_store(write, monkeypatch):
  latents = write()
  first = normalize.compute_stats(latents)
  with monkeypatch.context() as patch:
    patch.setattr(LatentStore, "read", None)  # a second pass would fail
    again = normalize.compute_stats(latents)
  jax.tree.map(np.testing.assert_array_equal, first, again)
  fewer = normalize.compute_stats(latents, max_clips=3)
  assert_close(fewer, store_two_pass([0, 5, 10]), 1e-5)


def test_statistics_of_other_latents_are_not_used(write):
  latents = write("a")
  normalize.compute_stats(latents)
  other = write("b", fingerprint="beef")
  content = (latents.path / normalize.FILE_NAME).read_bytes()
  (other.path / normalize.FILE_NAME).write_bytes(content)
  with pytest.raises(StatsError, match=r"fingerprint is 'f00d'.*'beef'"):
    normalize.load_stats(other, NUM_CLIPS)
  normalize.compute_stats(other)
  normalize.load_stats(other, NUM_CLIPS)


def test_a_damaged_file_of_statistics_is_replaced(write):
  latents = write()
  expected = normalize.compute_stats(latents)
  (latents.path / normalize.FILE_NAME).write_bytes(b"half")
  with pytest.raises(StatsError, match="cannot be read"):
    normalize.load_stats(latents, NUM_CLIPS)
  found = normalize.compute_stats(latents)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_only_the_training_split_has_statistics(write):
  with pytest.raises(StatsError, match=r"split 'eval'.*training split only"):
    normalize.compute_stats(write(split="eval"))


def test_layer_norm_against_float64():
  x = np.random.default_rng(0).normal(5, 3, size=(2, 4, 32))
  x[0, 0] = 2.0  # no variance: epsilon keeps it finite
  expected = x - x.mean(-1, keepdims=True)
  expected /= np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  found = normalize.layer_norm(x.astype(np.float32))
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=2e-5)
