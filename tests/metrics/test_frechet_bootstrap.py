import numpy as np
import pytest

from forecasting.metrics.bootstrap import clip_counts
from forecasting.metrics.frechet import fd, frechet_distance
from forecasting.metrics.frechet_bootstrap import (
  frechet_bootstrap,
  frechet_replicates,
  replicate_interval,
)
from forecasting.metrics.vectors import Vectors


def _vectors(num_clips, rows_per_clip, samples, length, seed=0, scale=1.3):
  rng = np.random.default_rng(seed)
  example = np.repeat(2 * np.arange(num_clips), rows_per_clip)
  truth = np.random.default_rng(99).normal(size=(len(example), length)) + 3
  noise = rng.normal(size=(len(example), samples, length))
  return Vectors(
    pred=3 + scale * noise,
    truth=truth,
    example=example,
    track=np.tile(np.arange(rows_per_clip), num_clips),
    num_examples=2 * num_clips,
    num_dropped=0,
    num_frames=1,
  )


@pytest.mark.parametrize(
  ("rows_per_clip", "samples", "length"),
  [(1, 3, 60), (1, 1, 60), (8, 3, 4), (3, 1, 4)],
)
def test_replicates_equal_the_distance_of_the_repeated_rows(
  rows_per_clip, samples, length
):
  vectors = _vectors(15, rows_per_clip, samples, length)
  replicates = frechet_replicates(vectors, 6, seed=1)
  for value, weights in zip(replicates, clip_counts(15, 6, seed=1)):
    rows = np.repeat(
      np.arange(vectors.num_rows), np.repeat(weights, rows_per_clip)
    )
    pred = vectors.pred[rows].reshape(-1, length)
    expected = frechet_distance(pred, vectors.truth[rows])
    assert value == pytest.approx(expected, rel=1e-7)


def test_interval_holds_the_estimate():
  vectors = _vectors(40, 1, 2, 80)
  interval, replicates = frechet_bootstrap(vectors, num_replicates=30)
  assert interval.value == fd(vectors).value
  assert interval.low < interval.value < interval.high
  # Repeated clips alone push every replicate above the estimate.
  assert replicates.min() > interval.value
  np.testing.assert_array_equal(replicates, frechet_replicates(vectors, 30))


def test_few_replicates_have_the_interval_of_their_deviation():
  """Percentiles of 30 are its extremes; a normal distribution's are not."""
  value = 10.0
  replicates = 12.0 + np.random.default_rng(0).normal(size=1000)
  few, many = replicates[:30], replicates
  found = replicate_interval(value, few, 5)
  half = 1.959964 * few.std(ddof=1)
  assert (found.low, found.high) == pytest.approx((value - half, value + half))
  found = replicate_interval(value, many, 5)
  ends = np.percentile(many - many.mean() + value, [2.5, 97.5])
  assert (found.low, found.high) == pytest.approx(tuple(ends))
  assert np.isnan(replicate_interval(value, few[:1], 5).low)


def test_few_replicates_cover_more_often_than_their_percentiles():
  rng = np.random.default_rng(1)
  hits = np.zeros(2)
  for _ in range(2000):
    error, replicates = rng.normal(), rng.normal(size=30)
    found = replicate_interval(error, replicates, 5)
    hits[0] += found.low < 0 < found.high
    low, high = np.percentile(replicates - replicates.mean(), [2.5, 97.5])
    hits[1] += low < -error < high
  normal, percentile = hits / 2000
  assert percentile < 0.93 < normal


def test_a_distance_is_not_below_zero():
  vectors = _vectors(12, 1, 1, 2, scale=1.0)
  interval, _ = frechet_bootstrap(vectors, num_replicates=10)
  assert 0 <= interval.low <= interval.value


def test_too_few_clips_have_no_interval():
  interval, _ = frechet_bootstrap(_vectors(1, 5, 2, 3))
  assert np.isfinite(interval.value)
  assert np.isnan([interval.low, interval.high]).all()
