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
from jaxtyping import Bool, Float

from forecasting.shapes import Array


def crps(
  pred: Float[Array, "R S V"],
  truth: Float[Array, "R V"],
  mask: Bool[Array, "R V"] | None = None,
) -> Float[np.ndarray, "R V"]:
  """Fair continuous ranked probability score of every element, eq. (1).

  Args:
    pred: members of the forecast.
    truth: the outcome.
    mask: elements that count; None is all.

  Returns:
    Scores in the unit of the rows; NaN where the mask is False.
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
  return score if mask is None else np.where(mask, score, np.nan)


def energy_score(
  pred: Float[Array, "R S V"],
  truth: Float[Array, "R V"],
  mask: Bool[Array, "R V"] | None = None,
) -> Float[np.ndarray, "R"]:
  """Fair energy score of every row, eq. (2).

  Args:
    pred: members of the forecast.
    truth: the outcome.
    mask: elements the norms run over; None is all.

  Returns:
    Scores in the unit of the rows; NaN for a row without a counted element.
  """
  if mask is None:
    return energy_score_matrix(pred, np.asarray(truth)[:, None])
  score = energy_score_matrix(
    np.where(np.asarray(mask)[:, None], pred, 0.0),
    np.where(mask, truth, 0.0)[:, None],
  )
  return np.where(np.asarray(mask).any(axis=1), score, np.nan)


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


def energy_score_matrix(
  pred: Float[Array, "R S V"], futures: Float[Array, "R F V"]
) -> Float[np.ndarray, "R"]:
  """Fair energy score, averaged over several outcomes of each row.

  Args:
    pred: members of the forecast.
    futures: outcomes drawn from the true conditional distribution.

  Returns:
    Scores in the unit of the rows.
  """
  pred = np.asarray(pred, np.float64)
  futures = np.asarray(futures, np.float64)
  to_truth = [_norm(pred - futures[:, f, None]) for f in range(len(futures[0]))]
  score = np.mean([distance.mean(axis=1) for distance in to_truth], axis=0)
  return score - 0.5 * _mean_pair_distance(pred)


def true_sampler_energy_score(
  futures: Float[Array, "R F V"],
) -> Float[np.ndarray, "R"]:
  """What a perfect sampler scores: the floor for `energy_score_matrix`.

  The fair score of the other futures against each in turn, averaged. Every
  pair then appears equally often, which leaves half the mean distance between
  two futures, whatever their number.

  Args:
    futures: outcomes drawn from the true conditional distribution.

  Returns:
    Scores in the unit of the rows.

  Raises:
    ValueError: if there are fewer than 2 futures.
  """
  if futures.shape[1] < 2:
    raise ValueError(
      f"futures holds {futures.shape[1]} outcome(s) per row (second axis); "
      "leaving one out takes 2 or more."
    )
  return 0.5 * _mean_pair_distance(np.asarray(futures, np.float64))


def spread_skill_terms(
  pred: Float[Array, "R S V"],
  truth: Float[Array, "R V"],
  num_frames: int,
  mask: Bool[Array, "R V"] | None = None,
) -> tuple[Float[np.ndarray, "R Tf"], Float[np.ndarray, "R Tf"]]:
  """Sums over the elements of each row and frame behind `spread_skill`.

  The square root of the ratio of their totals is the spread-skill ratio, of
  all rows or of any resampling of them.

  Args:
    pred: members of the forecast.
    truth: the outcome.
    num_frames: frames a row spans.
    mask: elements that count; None is all.

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
  if mask is not None:
    spread = np.where(mask, spread, 0.0)
    error = np.where(mask, error, 0.0)

  def by_lead(x):
    return rearrange(x, "r (f c) -> r f c", f=num_frames).sum(axis=-1)

  return by_lead(spread), by_lead(error)


def spread_skill(
  pred: Float[Array, "R S V"],
  truth: Float[Array, "R V"],
  num_frames: int,
  mask: Bool[Array, "R V"] | None = None,
) -> Float[np.ndarray, "Tf"]:
  """Spread over error of the ensemble mean, per frame ahead.

  Args:
    pred: members of the forecast.
    truth: the outcome.
    num_frames: frames a row spans.
    mask: elements that count; None is all.

  Returns:
    1 if calibrated, below 1 if too narrow; NaN for one member, or where
    spread and error are both 0.
  """
  spread, error = spread_skill_terms(pred, truth, num_frames, mask)
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.sqrt(spread.sum(axis=0) / error.sum(axis=0))


def rank_histogram(
  pred: Float[Array, "R S V"],
  truth: Float[Array, "R V"],
  num_frames: int = 1,
  mask: Bool[Array, "R V"] | None = None,
) -> Float[np.ndarray, "Tf M"]:
  """How often the truth has each rank among the members, per frame ahead.

  Args:
    pred: members of the forecast.
    truth: the outcome; a tie with k members counts 1/(k+1) for each of the
      ranks it may have.
    num_frames: 1 for one histogram of all frames, else the frames of a row.
    mask: elements that count; None is all.

  Returns:
    Frequencies of M = S + 1 ranks, summing to 1; flat if calibrated. NaN for a
    frame in which nothing counts, or a member beside a truth is not finite.
  """
  truth = np.asarray(truth, np.float64)[:, None]
  pred = np.asarray(pred, np.float64)
  below = (pred < truth).sum(axis=1)
  ties = (pred == truth).sum(axis=1)
  counted = np.isfinite(truth[:, 0])
  if mask is not None:
    counted &= np.asarray(mask)
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
