"""Scores where the true conditional distribution is known.

The embedded scenes give several true futures of one context. A forecast's
energy score, averaged over them, then stands beside what the simulator itself
would score had it been asked for samples (the floor), and beside the readout
of the simulator's true latents (what the forecaster could reach).

Shapes: R rows (one per context, or per track of a context), S samples, F true
futures, V elements of a row, frame-major.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from einops import reduce
from jaxtyping import Bool, Float, Int

from forecasting.metrics.vectors import Vectors
from forecasting.shapes import Array


@dataclasses.dataclass(frozen=True)
class Conditional:
  """Forecasts beside several true futures.

  Attributes:
    pred: forecasts.
    truth: true futures; anything where `valid` is False.
    valid: whether the truth of a future is complete.
    example: context of a row.
    num_frames: frames a row spans.
  """

  pred: Float[Array, "R S V"]
  truth: Float[Array, "R F V"]
  valid: Bool[Array, "R F"]
  example: Int[Array, "R"]
  num_frames: int


def gather(parts: Sequence[Vectors]) -> Conditional:
  """Aligns the rows of the same contexts for every future.

  Args:
    parts: one per future: the same forecasts beside that future's truth.

  Returns:
    Rows that are complete in at least half of the futures (and in two), so
    that both the forecast and the true sampler can be scored.
  """
  ids = [
    list(zip(part.example.tolist(), part.track.tolist())) for part in parts
  ]
  rows = sorted(set().union(*ids))
  index = {row: number for number, row in enumerate(rows)}
  num_samples, length = parts[0].pred.shape[1:]
  pred = np.zeros((len(rows), num_samples, length))
  truth = np.zeros((len(rows), len(parts), length))
  valid = np.zeros((len(rows), len(parts)), bool)
  for future, part in enumerate(parts):
    place = np.array([index[row] for row in ids[future]], int)
    pred[place] = part.pred
    truth[place, future] = part.truth
    valid[place, future] = True
  kept = valid.sum(axis=1) >= max(2, len(parts) / 2)
  return Conditional(
    pred=pred[kept],
    truth=truth[kept],
    valid=valid[kept],
    example=np.array([row[0] for row in rows], int)[kept],
    num_frames=parts[0].num_frames,
  )


def forecast_energy_score(rows: Conditional) -> Float[np.ndarray, "R"]:
  """Fair energy score of the forecast, averaged over the valid futures."""
  cross = _distances(rows.pred, rows.truth).mean(axis=1)
  score = (cross * rows.valid).sum(axis=1) / rows.valid.sum(axis=1)
  num_samples = rows.pred.shape[1]
  if num_samples == 1:
    return score
  pairs = _distances(rows.pred, rows.pred).sum(axis=(1, 2))
  return score - 0.5 * pairs / (num_samples * (num_samples - 1))


def true_energy_score(rows: Conditional) -> Float[np.ndarray, "R"]:
  """What the true sampler scores: half the mean distance of two futures."""
  pairs = _distances(rows.truth, rows.truth)
  both = rows.valid[:, :, None] & rows.valid[:, None]
  number = rows.valid.sum(axis=1)
  return 0.5 * (pairs * both).sum(axis=(1, 2)) / (number * (number - 1))


def resampled_energy_score(rows: Conditional) -> Float[np.ndarray, "R"]:
  """Fair energy score of one member per future, each truth leaving out its own.

  Args:
    rows: with as many forecasts as futures, forecast f being what a readout
      makes of the latents of true future f.
  """
  valid = rows.valid
  different = ~np.eye(valid.shape[1], dtype=bool)
  both = valid[:, :, None] & valid[:, None] & different
  number = valid.sum(axis=1)
  cross = (_distances(rows.pred, rows.truth) * both).sum(axis=(1, 2))
  pairs = (_distances(rows.pred, rows.pred) * both).sum(axis=(1, 2))
  # A pair of members is left in by all futures but its own two, so the mean
  # over futures of the fair pair term is the plain mean over pairs.
  return (cross - 0.5 * pairs) / (number * (number - 1))


def spread_skill_terms(
  rows: Conditional,
) -> tuple[Float[np.ndarray, "R Tf"], Float[np.ndarray, "R Tf"]]:
  """Terms of the spread-skill ratio, the error averaged over valid futures."""
  num_samples = rows.pred.shape[1]
  spread = rows.pred.var(axis=1, ddof=1) * (num_samples + 1) / num_samples
  error = np.square(rows.pred.mean(axis=1)[:, None] - rows.truth)
  error = (error * rows.valid[..., None]).sum(axis=1)
  error /= rows.valid.sum(axis=1)[:, None]

  def by_lead(x):
    return reduce(x, "R (f c) -> R f", "sum", f=rows.num_frames)

  return by_lead(spread), by_lead(error)


def _distances(
  a: Float[np.ndarray, "R I V"], b: Float[np.ndarray, "R J V"]
) -> Float[np.ndarray, "R I J"]:
  """Euclidean distances of all pairs, one row at a time to bound memory."""
  out = np.empty((len(a), a.shape[1], b.shape[1]))
  for row, (x, y) in enumerate(zip(a, b)):
    out[row] = np.linalg.norm(x[:, None] - y[None], axis=-1)
  return out
