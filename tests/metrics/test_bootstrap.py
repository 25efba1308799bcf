import numpy as np
import pytest

from forecasting.metrics.bootstrap import (
  clip_counts,
  compare_means,
  mean_interval,
  ratio_interval,
)


def test_replicates_draw_as_many_clips_as_there_are():
  counts = clip_counts(7, 50, seed=1)
  assert counts.shape == (50, 7)
  np.testing.assert_array_equal(counts.sum(axis=1), 7)
  np.testing.assert_array_equal(counts, clip_counts(7, 50, seed=1))
  assert (counts != clip_counts(7, 50, seed=2)).any()


def test_interval_matches_resampling_the_rows_themselves():
  rng = np.random.default_rng(0)
  example = np.repeat(np.arange(12), rng.integers(1, 6, 12))
  values = rng.normal(size=len(example)) + example
  result = mean_interval(values, example, num_replicates=300, seed=3)
  means = []
  for weights in clip_counts(12, 300, seed=3):
    rows = np.concatenate(
      [np.tile(values[example == c], n) for c, n in enumerate(weights)]
    )
    means.append(rows.mean())
  low, high = np.percentile(means, [2.5, 97.5])
  assert result.value == pytest.approx(values.mean(), rel=1e-13)
  assert result.low == pytest.approx(low, rel=1e-12)
  assert result.high == pytest.approx(high, rel=1e-12)
  assert result.num_clips == 12


def test_interval_covers_the_true_mean_of_dependent_rows():
  rng = np.random.default_rng(1)
  example = np.repeat(np.arange(60), 10)
  covered = naive = 0
  for trial in range(100):
    clip_effect = rng.normal(size=60)[example]
    values = clip_effect + 0.1 * rng.normal(size=600)
    interval = mean_interval(values, example, num_replicates=200, seed=trial)
    covered += interval.low <= 0.0 <= interval.high
    interval = mean_interval(values, num_replicates=200, seed=trial)
    naive += interval.low <= 0.0 <= interval.high
  assert 0.88 <= covered / 100 <= 0.99
  # Rows as if independent would be far too sure.
  assert naive / 100 < 0.7


def test_nan_values_are_left_out():
  values = np.array([1.0, np.nan, 2.0, 3.0])
  plain = mean_interval(values[[0, 2, 3]], seed=4)
  with_nan = mean_interval(values, seed=4)
  assert with_nan == plain
  assert with_nan.value == 2.0
  nothing = mean_interval(np.full(3, np.nan))
  assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
  assert nothing.num_clips == 0


def test_ratio_of_sums_with_a_transform():
  rng = np.random.default_rng(5)
  top, bottom = rng.uniform(1, 2, (2, 200))
  result = ratio_interval(top, bottom, transform=np.sqrt, seed=6)
  assert result.value == pytest.approx(np.sqrt(top.sum() / bottom.sum()))
  assert result.low < result.value < result.high
  assert result.high - result.low < 0.1


def test_paired_comparison_is_sharper_than_the_two_intervals():
  rng = np.random.default_rng(7)
  difficulty = 10 * rng.normal(size=100)
  a, b = difficulty + 0.2 + 0.5 * rng.normal(size=100), difficulty
  better = compare_means(a, b, higher_is_better=True, seed=8)
  assert better.difference.value == pytest.approx(np.mean(a - b))
  assert better.difference.low > 0
  assert better.probability_better > 0.99
  worse = compare_means(a, b, higher_is_better=False, seed=8)
  assert worse.probability_better == pytest.approx(
    1 - better.probability_better
  )
  one, other = mean_interval(a), mean_interval(b)
  assert one.low < other.high and other.low < one.high


def test_equal_forecasters_are_even():
  values = np.random.default_rng(9).normal(size=30)
  result = compare_means(values, values, higher_is_better=True)
  assert result.probability_better == 0.5
  assert result.difference.low == result.difference.high == 0.0


def test_pairs_with_nan_are_left_out_of_both_sides():
  a = np.array([1.0, np.nan, 3.0, 5.0])
  b = np.array([0.0, 100.0, np.nan, 3.0])
  result = compare_means(a, b, higher_is_better=True)
  assert result.difference.value == 1.5
  assert result.difference.num_clips == 2
