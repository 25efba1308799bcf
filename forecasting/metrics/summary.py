"""One forecaster's values and vectors -> the scores of its result row.

Each score is a value with the ends of its 95 % bootstrap interval over clips.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from forecasting.metrics import (
  aggregate,
  bootstrap,
  frechet,
  frechet_bootstrap,
  proper,
  variance,
)
from forecasting.metrics.vectors import Vectors
from forecasting.shapes import Array

Scores = dict[str, dict[str, float]]


def entry(interval: bootstrap.Interval) -> dict[str, float]:
  """Returns an interval as it stands in a result row."""
  return {
    "value": interval.value,
    "low": interval.low,
    "high": interval.high,
  }


def sample_scores(
  values: Float[Array, "B S"], higher_is_better: bool, num_replicates: int
) -> tuple[Scores, aggregate.Aggregate]:
  """Mean, standard deviation and best over samples, averaged over clips.

  Args:
    values: the task's metric per clip and sample; NaN where there is none.
    higher_is_better: direction of the metric.
    num_replicates: bootstrap replicates.
  """
  total = aggregate.aggregate(values)
  per_example = {
    "mean": total.example_mean,
    "std": total.example_std,
    "best": total.example_best(higher_is_better),
  }
  scores = {
    name: entry(bootstrap.mean_interval(value, num_replicates=num_replicates))
    for name, value in per_example.items()
  }
  return scores, total


def distribution_scores(
  rows: Vectors, num_replicates: int, num_frechet_replicates: int
) -> tuple[Scores, dict[str, Any]]:
  """Distribution metrics, proper scores and calibration of vectors.

  Args:
    rows: forecasts beside the truth.
    num_replicates: bootstrap replicates of the proper scores.
    num_frechet_replicates: bootstrap replicates of Fréchet distances.

  Returns:
    The scores, and further fields of the result row.
  """
  distance = frechet.fd(rows)
  first = rows.first_sample()
  fields: dict[str, Any] = {
    "num_rows": rows.num_rows,
    "num_rows_dropped": rows.num_dropped,
    "rank_deficient": distance.rank_deficient,
    "fd_rows": [distance.num_truth, distance.num_pred],
  }
  if rows.num_rows == 0:
    return {}, fields
  scores: Scores = {}
  for name, vectors in (("fd", rows), ("fd_1", first)):
    if name == "fd_1" and rows.num_samples == 1:
      scores[name] = scores["fd"]
      continue
    interval, replicates = frechet_bootstrap.frechet_bootstrap(
      vectors, num_replicates=num_frechet_replicates
    )
    scores[name] = entry(interval)
  # The last ones are of one sample per clip; rows of the same clips are paired.
  fields["fd_1_replicates"] = [float(f"{x:.6g}") for x in replicates]
  for name, value in _variances(rows).items():
    scores[name] = {"value": value, "low": np.nan, "high": np.nan}
  proper_scores, proper_fields = _proper(rows, num_replicates)
  return scores | proper_scores, fields | proper_fields


def _variances(rows: Vectors) -> dict[str, float]:
  pooled = rows.pooled()
  return {
    "var_time": variance.var_time(pooled, rows.num_frames),
    "var_gauss": variance.var_gauss(pooled),
    "truth_var_time": variance.var_time(rows.truth, rows.num_frames),
    "truth_var_gauss": variance.var_gauss(rows.truth),
  }


def _proper(
  rows: Vectors, num_replicates: int
) -> tuple[Scores, dict[str, Any]]:
  def mean(values):
    return entry(
      bootstrap.mean_interval(
        values, rows.example, num_replicates=num_replicates
      )
    )

  crps = proper.crps(rows.pred, rows.truth)
  scores = {
    "energy_score": mean(proper.energy_score(rows.pred, rows.truth)),
    "crps": mean(crps.mean(axis=1)),
  }
  by_lead = {
    "energy_score_per_lead": proper.energy_score_by_lead(
      rows.pred, rows.truth, rows.num_frames
    )
    .mean(axis=0)
    .tolist(),
    "crps_per_lead": crps.reshape(len(crps), rows.num_frames, -1)
    .mean(axis=(0, 2))
    .tolist(),
  }
  if rows.num_samples == 1:
    return scores, by_lead
  spread, error = proper.spread_skill_terms(
    rows.pred, rows.truth, rows.num_frames
  )
  scores["spread_skill"] = entry(
    bootstrap.ratio_interval(
      spread.sum(axis=1),
      error.sum(axis=1),
      rows.example,
      transform=np.sqrt,
      num_replicates=num_replicates,
    )
  )
  histogram = proper.rank_histogram(rows.pred, rows.truth)
  # Of few clips even a calibrated forecast's histogram is not quite flat.
  deviation = float(proper.rank_deviation(histogram)[0])
  scores["rank_deviation"] = {"value": deviation, "low": np.nan, "high": np.nan}
  scores["spread"] = mean(np.square(rows.pred.std(axis=1, ddof=1)).mean(axis=1))
  return scores, by_lead | {
    "spread_skill_per_lead": ratio_per_lead(spread, error),
    "rank_histogram": histogram[0].tolist(),
    "rank_deviation_per_lead": proper.rank_deviation(
      proper.rank_histogram(rows.pred, rows.truth, rows.num_frames)
    ).tolist(),
  }


def means_per_lead(values: Float[Array, "B S Tf"]) -> list[float]:
  """Returns the mean over samples, then clips, of every frame ahead.

  Args:
    values: NaN where there is none.
  """
  return [
    aggregate.aggregate(values[..., lead]).mean
    for lead in range(values.shape[-1])
  ]


def ratio_per_lead(
  spread: Float[np.ndarray, "R Tf"], error: Float[np.ndarray, "R Tf"]
) -> list[float]:
  """Returns the spread-skill ratio of every future frame."""
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.sqrt(spread.sum(axis=0) / error.sum(axis=0)).tolist()


def secondary_scores(
  values: Mapping[str, Float[Array, "B S"]], num_replicates: int
) -> Scores:
  """Means of a task's further metrics over samples, then clips."""
  return {
    name: entry(
      bootstrap.mean_interval(
        aggregate.aggregate(value).example_mean, num_replicates=num_replicates
      )
    )
    for name, value in values.items()
  }
