"""Bootstrap over clips: intervals for means and ratios.

Clips are resampled, never frames, tracks or samples, which depend on one
another within a clip. A replicate draws as many clips as there are, with
replacement; all rows of a clip come with it, so means are ratios of sums.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from forecasting.shapes import Array

LEVEL = 0.95
NUM_REPLICATES = 1000


@dataclasses.dataclass(frozen=True)
class Interval:
  """An estimate with its 95% interval; all NaN if there is no clip.

  Attributes:
    value: the estimate from all clips.
    low: lower end.
    high: upper end.
    num_clips: clips that contributed.
  """

  value: float
  low: float
  high: float
  num_clips: int


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A paired difference A - B with its 95% interval.

  Attributes:
    difference: interval of the difference of means.
    probability_better: share of replicates in which A is better than B, ties
      counted half.
  """

  difference: Interval
  probability_better: float


def clip_counts(
  num_clips: int, num_replicates: int = NUM_REPLICATES, seed: int = 0
) -> Int[np.ndarray, "R B"]:
  """How often every replicate draws every clip.

  Args:
    num_clips: clips to draw from, and to draw.
    num_replicates: rows of the result.
    seed: the same seed draws the same clips.

  Returns:
    Counts that sum to `num_clips` in every replicate.
  """
  rng = np.random.default_rng(seed)
  share = np.full(num_clips, 1.0 / num_clips)
  return rng.multinomial(num_clips, share, size=num_replicates)


def mean_interval(
  values: Float[Array, "N"],
  example: Int[Array, "N"] | None = None,
  *,
  num_replicates: int = NUM_REPLICATES,
  seed: int = 0,
) -> Interval:
  """Percentile interval of the mean of values.

  Args:
    values: one or more values per clip; NaN values are left out.
    example: the clip of every value; None if each is its own clip.
    num_replicates: bootstrap replicates.
    seed: of the resampling.

  Returns:
    The mean over values and its interval over clips.
  """
  weights = np.where(np.isnan(values), np.nan, 1.0)
  return ratio_interval(
    values, weights, example, num_replicates=num_replicates, seed=seed
  )


def ratio_interval(
  numerator: Float[Array, "N"],
  denominator: Float[Array, "N"],
  example: Int[Array, "N"] | None = None,
  *,
  transform: Callable[[np.ndarray], np.ndarray] | None = None,
  num_replicates: int = NUM_REPLICATES,
  seed: int = 0,
) -> Interval:
  """Percentile interval of a ratio of sums.

  For a spread-skill ratio, give `proper.spread_skill_terms` and `np.sqrt`; for
  an energy score relative to the true sampler's, the two scores.

  Args:
    numerator: terms of the upper sum.
    denominator: terms of the lower sum; a pair with a NaN is left out.
    example: the clip of every term; None if each is its own clip.
    transform: applied to the ratio.
    num_replicates: bootstrap replicates.
    seed: of the resampling.

  Returns:
    The ratio over all terms and its interval over clips.
  """
  top, bottom = _sum_by_clip((numerator, denominator), example)
  if len(top) == 0:
    return Interval(np.nan, np.nan, np.nan, 0)
  transform = transform or (lambda ratio: ratio)
  counts = clip_counts(len(top), num_replicates, seed)
  with np.errstate(divide="ignore", invalid="ignore"):
    value = transform(top.sum() / bottom.sum())
    replicates = transform((counts @ top) / (counts @ bottom))
  return percentile_interval(float(value), replicates, len(top))


def compare_means(
  a: Float[Array, "N"],
  b: Float[Array, "N"],
  example: Int[Array, "N"] | None = None,
  *,
  higher_is_better: bool,
  num_replicates: int = NUM_REPLICATES,
  seed: int = 0,
) -> Comparison:
  """Paired bootstrap of the difference between two forecasters.

  Args:
    a: values of the first, aligned with `b`.
    b: values of the second; a pair with a NaN is left out.
    example: the clip of every pair; None if each is its own clip.
    higher_is_better: direction of the metric.
    num_replicates: bootstrap replicates.
    seed: of the resampling.

  Returns:
    The mean of a - b, its interval, and how surely A is better.
  """
  difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
  weights = np.where(np.isnan(difference), np.nan, 1.0)
  top, bottom = _sum_by_clip((difference, weights), example)
  if len(top) == 0:
    return Comparison(Interval(np.nan, np.nan, np.nan, 0), np.nan)
  counts = clip_counts(len(top), num_replicates, seed)
  replicates = (counts @ top) / (counts @ bottom)
  value = float(top.sum() / bottom.sum())
  return Comparison(
    percentile_interval(value, replicates, len(top)),
    share_better(replicates, higher_is_better),
  )


def percentile_interval(
  value: float, replicates: Float[np.ndarray, "R"], num_clips: int
) -> Interval:
  """Interval between percentiles of bootstrap replicates.

  Args:
    value: the estimate from all clips.
    replicates: estimates from resampled clips; NaN values are left out.
    num_clips: clips that were resampled.

  Returns:
    The interval at LEVEL; NaN ends if no replicate has a value.
  """
  replicates = replicates[~np.isnan(replicates)]
  if len(replicates) == 0:
    return Interval(value, np.nan, np.nan, num_clips)
  tail = 50.0 * (1.0 - LEVEL)
  low, high = np.percentile(replicates, [tail, 100.0 - tail])
  return Interval(value, float(low), float(high), num_clips)


def share_better(
  replicates: Float[np.ndarray, "R"], higher_is_better: bool
) -> float:
  """Share of replicates of a difference A - B in which A is better.

  Args:
    replicates: differences; NaN values are left out, zeros count half.
    higher_is_better: direction of the metric.

  Returns:
    A value in [0, 1]; NaN if no replicate has a value.
  """
  replicates = replicates[~np.isnan(replicates)]
  if len(replicates) == 0:
    return float("nan")
  sign = 1.0 if higher_is_better else -1.0
  return float(np.mean((np.sign(sign * replicates) + 1.0) / 2.0))


def _sum_by_clip(
  terms: tuple, example: np.ndarray | None
) -> list[Float[np.ndarray, "B"]]:
  """Sums of every array over the rows of each clip that has a value."""
  terms = [np.asarray(term, np.float64) for term in terms]
  if example is None:
    example = np.arange(len(terms[0]))
  kept = ~np.any([np.isnan(term) for term in terms], axis=0)
  clips, clip = np.unique(np.asarray(example)[kept], return_inverse=True)
  sums = [np.zeros(len(clips)) for _ in terms]
  for total, term in zip(sums, terms):
    np.add.at(total, clip, term[kept])
  return sums
