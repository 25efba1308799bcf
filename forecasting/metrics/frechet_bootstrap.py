"""Bootstrap over clips of Fréchet distances.

A replicate's distance is that of its repeated rows, but neither the rows nor
their inner products are formed again: what resampling changes is only how much
each clip weighs.
"""

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int

from forecasting.metrics.bootstrap import (
  Interval,
  clip_counts,
  percentile_interval,
)
from forecasting.metrics.frechet import distance_from_cross, fd
from forecasting.metrics.vectors import Vectors

# A replicate takes an eigenvalue problem, and its accuracy need only be far
# below the width of any interval.
NUM_REPLICATES = 50
_TOLERANCE = 1e-5
# Percentiles of fewer replicates lie too close together: of 30, less than one
# replicate is beyond each end of the interval. Source: our choice.
MIN_FOR_PERCENTILES = 200
_NORMAL = 1.959964  # standard deviations on both sides that hold 95 %


def frechet_bootstrap(
  vectors: Vectors,
  *,
  num_replicates: int = NUM_REPLICATES,
  seed: int = 0,
) -> tuple[Interval, Float[np.ndarray, "R"]]:
  """Interval of the Fréchet distance of all samples, pooled.

  See `replicate_interval`; its low end is at least 0, as distances are.

  Args:
    vectors: rows of forecasts and truth; `vectors.first_sample()` for one
      sample of each.
    num_replicates: bootstrap replicates.
    seed: of the resampling.

  Returns:
    The distance with its interval, whose ends are NaN for fewer than 2 clips,
    and the replicates, not shifted; those of forecasters on the same clips are
    paired.
  """
  value = fd(vectors).value
  clips = np.unique(vectors.example)
  if len(clips) < 2 or np.isnan(value):
    return Interval(value, np.nan, np.nan, len(clips)), np.array([], float)
  replicates = frechet_replicates(vectors, num_replicates, seed)
  interval = replicate_interval(value, replicates, len(clips))
  low, high = np.maximum([interval.low, interval.high], 0.0)
  interval = Interval(value, float(low), float(high), len(clips))
  return interval, replicates


def replicate_interval(
  value: float, replicates: Float[np.ndarray, "R"], num_clips: int
) -> Interval:
  """Interval of a Fréchet distance, or of a difference of two.

  Repeated clips lower the rank of a replicate and so raise its distance above
  the estimate. The percentiles are therefore shifted by the difference between
  the replicates' mean and the estimate. Of fewer than `MIN_FOR_PERCENTILES` the
  standard deviation is taken instead, as that of a normal distribution around
  the estimate. Source: our choice.

  Args:
    value: the estimate from all clips.
    replicates: estimates from resampled clips; NaN values are left out.
    num_clips: clips that were resampled.

  Returns:
    The interval at the level of `percentile_interval`; NaN ends for fewer than
    2 replicates.
  """
  known = replicates[~np.isnan(replicates)]
  if len(known) < 2:
    return Interval(value, np.nan, np.nan, num_clips)
  if len(known) < MIN_FOR_PERCENTILES:
    half = _NORMAL * float(known.std(ddof=1))
    return Interval(value, value - half, value + half, num_clips)
  return percentile_interval(value, known - known.mean() + value, num_clips)


def frechet_replicates(
  vectors: Vectors, num_replicates: int, seed: int = 0
) -> Float[np.ndarray, "R"]:
  """Fréchet distances of resampled clips.

  Inner products (few clips, long rows) or moments per clip (many short rows)
  are computed once; a replicate only weights them.

  Args:
    vectors: rows of forecasts and truth of at least 2 clips.
    num_replicates: length of the result.
    seed: of the resampling; the same for the same clips.

  Returns:
    One distance per replicate, equal to that of the repeated rows.
  """
  _, clip = np.unique(vectors.example, return_inverse=True)
  counts = clip_counts(int(clip.max()) + 1, num_replicates, seed)
  num_rows, num_dims = vectors.truth.shape
  num_moments = counts.shape[1] * num_dims**2
  num_products = num_rows**2 * vectors.num_samples
  center = np.asarray(vectors.truth, np.float64).mean(axis=0)
  # Distances do not depend on the origin, but rounding does.
  truth = (vectors.truth - center)[:, None]
  pred = vectors.pred - center
  if num_moments < num_products:
    return _replicates_by_moments(pred, truth, clip, counts)
  return _replicates_by_products(pred, truth, counts[:, clip])


def _replicates_by_moments(
  pred: Float[np.ndarray, "N S V"],
  truth: Float[np.ndarray, "N 1 V"],
  clip: Int[np.ndarray, "N"],
  counts: Int[np.ndarray, "R B"],
) -> Float[np.ndarray, "R"]:
  """Weights the moments of every clip; for many short rows."""
  sides = []
  num_clips = counts.shape[1]
  for rows in (pred, truth):
    sums = np.zeros((num_clips, rows.shape[-1]))
    np.add.at(sums, clip, rows.sum(axis=1))
    squares = np.zeros((num_clips, rows.shape[-1], rows.shape[-1]))
    np.add.at(squares, clip, np.einsum("nsv,nsw->nvw", rows, rows))
    number = np.bincount(clip, minlength=num_clips) * rows.shape[1]
    sides.append((number, sums, squares))
  distances = [_weighted_distance(weights, sides) for weights in counts]
  return np.array(distances)


def _weighted_distance(weights: np.ndarray, sides: list) -> float:
  """Distance of one replicate from the moments of every clip."""
  means, factors, rest = [], [], 0.0
  for number, sums, squares in sides:
    total = weights @ number
    if total < 2:
      return float("nan")
    mean = weights @ sums / total
    scatter = np.tensordot(weights, squares, axes=1)
    covariance = (scatter - total * np.outer(mean, mean)) / (total - 1)
    values, directions = np.linalg.eigh(covariance)
    factors.append(directions * np.sqrt(np.maximum(values, 0.0)))
    rest += np.trace(covariance)
    means.append(mean)
  rest += np.square(means[0] - means[1]).sum()
  cross = factors[0].T @ factors[1]
  return distance_from_cross(rest, cross, _TOLERANCE)


def _replicates_by_products(
  pred: Float[np.ndarray, "N S V"],
  truth: Float[np.ndarray, "N 1 V"],
  counts: Int[np.ndarray, "R N"],
) -> Float[np.ndarray, "R"]:
  """Weights inner products of rows; for few rows of many elements."""
  num_samples = pred.shape[1]
  truth = truth[:, 0]
  mean_pred = pred.mean(axis=1)
  products = {
    "truth": truth @ truth.T,
    "pred": mean_pred @ mean_pred.T,
    "both": truth @ mean_pred.T,
  }
  norms_truth = np.einsum("nv,nv->n", truth, truth)
  norms_pred = np.einsum("nsv,nsv->n", pred, pred)
  cross = np.einsum("nv,msv->nms", truth, pred, optimize=True)
  distances = []
  for weights in counts:
    drawn = np.flatnonzero(weights)
    weight = weights[drawn].astype(np.float64)
    share = weight / weight.sum()
    total = weight.sum()
    total_pred = total * num_samples
    if total < 2:
      distances.append(np.nan)
      continue
    square = {
      name: share @ matrix[np.ix_(drawn, drawn)] @ share
      for name, matrix in products.items()
    }
    rest = square["truth"] + square["pred"] - 2.0 * square["both"]
    trace_truth = weight @ norms_truth[drawn] - total * square["truth"]
    trace_pred = weight @ norms_pred[drawn] - total_pred * square["pred"]
    rest += trace_truth / (total - 1) + trace_pred / (total_pred - 1)
    part = cross[np.ix_(drawn, drawn)]
    part = part - np.tensordot(share, part, axes=1)
    center = np.tensordot(part.mean(axis=2), share, axes=1)
    part = (part - center[:, None, None]) * np.sqrt(
      weight[:, None, None] * weight[:, None]
    )
    part = rearrange(part, "n m s -> n (m s)")
    part /= np.sqrt((total - 1) * (total_pred - 1))
    distances.append(distance_from_cross(rest, part, _TOLERANCE))
  return np.array(distances)
