"""Proper scores and calibration of an ensemble of forecasts.

With members x_1..x_M of one forecast and its truth y, lower is better in both

    CRPS = 1/M sum_i |x_i - y| - 1/(2M(M-1)) sum_ij |x_i - x_j|     (1)
    ES   = the same with Euclidean norms of whole rows              (2)

These are the fair versions: their expectation does not depend on M, so
forecasters with different numbers of samples compare. M = 1 leaves the first
term, the score of a forecast that claims certainty.

Shapes as in `vectors`: R rows, S members, V elements per row, frame-major.
"""

import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.shapes import Array


def crps(
  pred: Float[Array, "R S V"], truth: Float[Array, "R V"]
) -> Float[np.ndarray, "R V"]:
  """Fair continuous ranked probability score of every element, eq. (1).

  Args:
    pred: members of the forecast.
    truth: the outcome.

  Returns:
    Scores in the unit of the rows.
  """
  pred = np.asarray(pred, np.float64)
  truth = np.asarray(truth, np.float64)
  num_members = pred.shape[1]
  score = np.abs(pred - truth[:, None]).mean(axis=1)
  if num_members > 1:
    # Sorted members give the sum over pairs without forming the pairs.
    rank = np.arange(1, num_members + 1)
    weight = (2 * rank - num_members - 1) / (num_members * (num_members - 1))
    score -= np.einsum("rsv,s->rv", np.sort(pred, axis=1), weight)
  return score


def energy_score(
  pred: Float[Array, "R S V"], truth: Float[Array, "R V"]
) -> Float[np.ndarray, "R"]:
  """Fair energy score of every row, eq. (2).

  Args:
    pred: members of the forecast.
    truth: the outcome.

  Returns:
    Scores in the unit of the rows.
  """
  pred = np.asarray(pred, np.float64)
  truth = np.asarray(truth, np.float64)
  to_truth = _norm(pred - truth[:, None]).mean(axis=1)
  return to_truth - 0.5 * _mean_pair_distance(pred)


def energy_score_by_lead(
  pred: Float[Array, "R S V"], truth: Float[Array, "R V"], num_frames: int
) -> Float[np.ndarray, "R Tf"]:
  """Fair energy score of every frame of every row.

  Args:
    pred: members of the forecast.
    truth: the outcome.
    num_frames: frames a row spans.

  Returns:
    Scores in the unit of the rows.
  """
  pred_frames = np.split(np.asarray(pred), num_frames, axis=-1)
  true_frames = np.split(np.asarray(truth), num_frames, axis=-1)
  scores = [energy_score(p, t) for p, t in zip(pred_frames, true_frames)]
  return np.stack(scores, axis=1)


def spread_skill_terms(
  pred: Float[Array, "R S V"],
  truth: Float[Array, "R V"],
  num_frames: int,
) -> tuple[Float[np.ndarray, "R Tf"], Float[np.ndarray, "R Tf"]]:
  """Spread and error of each row and frame, summed over elements.

  The square root of the ratio of their totals is the spread-skill ratio, of
  all rows or of any resampling of them.

  Args:
    pred: members of the forecast.
    truth: the outcome.
    num_frames: frames a row spans.

  Returns:
    (M+1)/M times the variance over members (ddof 1; NaN for one member), and
    the squared error of the members' mean.
  """
  pred = np.asarray(pred, np.float64)
  num_members = pred.shape[1]
  if num_members > 1:
    spread = pred.var(axis=1, ddof=1) * (num_members + 1) / num_members
  else:
    spread = np.full(truth.shape, np.nan)
  error = np.square(pred.mean(axis=1) - np.asarray(truth, np.float64))

  def by_lead(x):
    return rearrange(x, "r (f c) -> r f c", f=num_frames).sum(axis=-1)

  return by_lead(spread), by_lead(error)


def rank_histogram(
  pred: Float[Array, "R S V"],
  truth: Float[Array, "R V"],
  num_frames: int = 1,
) -> Float[np.ndarray, "Tf M"]:
  """How often the truth has each rank among the members, per frame ahead.

  Args:
    pred: members of the forecast.
    truth: the outcome; a tie with k members counts 1/(k+1) for each of the
      ranks it may have.
    num_frames: 1 for one histogram of all frames, else the frames of a row.

  Returns:
    Frequencies of M = S + 1 ranks, summing to 1; flat if calibrated. NaN for a
    frame in which nothing counts, or a member beside a truth is not finite.
  """
  truth = np.asarray(truth, np.float64)[:, None]
  pred = np.asarray(pred, np.float64)
  below = (pred < truth).sum(axis=1)
  ties = (pred == truth).sum(axis=1)
  counted = np.isfinite(truth[:, 0])
  sound = np.isfinite(pred).all(axis=1) | ~counted
  histograms = []
  parts = (below, ties, counted, sound)
  split = [np.split(x, num_frames, axis=1) for x in parts]
  for lowest, tied, kept, known in zip(*split):
    total = np.zeros(pred.shape[1] + 1)
    for rank in range(len(total)):
      hit = kept & (lowest <= rank) & (rank <= lowest + tied)
      total[rank] = (hit / (tied + 1)).sum()
    has_value = kept.any() and known.all()
    histograms.append(total / kept.sum() if has_value else total * np.nan)
  return np.stack(histograms)


def rank_deviation(
  histogram: Float[Array, "Tf M"],
) -> Float[np.ndarray, "Tf"]:
  """Total variation distance between a rank histogram and a flat one.

  Args:
    histogram: frequencies that sum to 1.

  Returns:
    0 if flat, towards 1 as one rank takes all.
  """
  histogram = np.asarray(histogram, np.float64)
  return 0.5 * np.abs(histogram - 1.0 / histogram.shape[-1]).sum(axis=-1)


def _norm(rows: Float[np.ndarray, "*B V"]) -> Float[np.ndarray, "*B"]:
  return np.sqrt(np.einsum("...v,...v->...", rows, rows))


def _mean_pair_distance(
  members: Float[np.ndarray, "R M V"],
) -> Float[np.ndarray, "R"]:
  """Mean distance between two different members; 0 for one member."""
  num_members = members.shape[1]
  total = np.zeros(len(members))
  for i in range(num_members - 1):
    total += _norm(members[:, i + 1 :] - members[:, i, None]).sum(axis=1)
  return total / max(num_members * (num_members - 1) / 2, 1)
