"""One forecaster's values and vectors -> the scores of its result row.

Each score is a value with the ends of its 95 % bootstrap interval over clips.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from einops import reduce
from jaxtyping import Bool, Float

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

Scores = dict[str, dict[str, Any]]

FORECASTS = "forecasts of clips"
ROWS = "forecasts of rows"


def entry(interval: bootstrap.Interval, reason: str = "") -> dict[str, Any]:
  """Returns an interval as it stands in a result row.

  Args:
    interval: of a score.
    reason: why the score has no value, whatever the interval says; empty if it
      has one.
  """
  if reason:
    nan = {name: np.nan for name in ("value", "low", "high")}
    return nan | {"reason": reason}
  return {
    "value": interval.value,
    "low": interval.low,
    "high": interval.high,
  }


def why_void(is_finite: Bool[Array, "*B"], what: str) -> str:
  """Says why a score has no value: it would leave out what is not finite.

  Args:
    is_finite: of everything that the score is made of.
    what: noun for the entries.

  Returns:
    The reason, with the count; empty if all are finite.
  """
  count = int(np.sum(~np.asarray(is_finite)))
  total = np.size(is_finite)
  return f"{count} of {total} {what} are not finite" if count else ""


def sample_scores(
  values: Float[Array, "B S"],
  higher_is_better: bool,
  num_replicates: int,
  is_finite: Bool[Array, "B S"] | None = None,
) -> tuple[Scores, aggregate.Aggregate]:
  """Mean, standard deviation and best over samples, averaged over clips.

  Args:
    values: the task's metric per clip and sample; NaN where there is none.
    higher_is_better: direction of the metric.
    num_replicates: bootstrap replicates.
    is_finite: whether the forecast is; None: all are. If one is not, no score
      has a value.
  """
  total = aggregate.aggregate(values, is_finite)
  reason = "" if is_finite is None else why_void(is_finite, FORECASTS)
  per_example = {
    "mean": total.example_mean,
    "std": total.example_std,
    "best": total.example_best(higher_is_better),
  }
  scores = {
    name: entry(
      bootstrap.mean_interval(value, num_replicates=num_replicates), reason
    )
    for name, value in per_example.items()
  }
  return scores, total


def distribution_scores(
  rows: Vectors,
  num_replicates: int,
  num_frechet_replicates: int,
  members: int = 1,
) -> tuple[Scores, dict[str, Any]]:
  """Distribution metrics, proper scores and calibration of vectors.

  Args:
    rows: forecasts beside the truth.
    num_replicates: bootstrap replicates of the proper scores.
    num_frechet_replicates: bootstrap replicates of Fréchet distances.
    members: trainings whose samples are pooled; of several, what their samples
      vary by is split if one has two samples or more.

  Returns:
    The scores, and further fields of the result row.
  """
  distance = frechet.fd(rows)
  first = rows.first_sample()
  finite = reduce(np.isfinite(rows.pred), "R S V -> R S", "all")
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
    used = finite[:, : vectors.num_samples]
    scores[name] = entry(interval, why_void(used, ROWS))
  # The last ones are of one sample per clip; rows of the same clips are paired.
  fields["fd_1_replicates"] = [float(f"{x:.6g}") for x in replicates]
  # A forecast that is not finite leaves its frames without a value, silently.
  with np.errstate(invalid="ignore"):
    variances = _variances(rows)
    proper_scores, proper_fields = _proper(
      rows, num_replicates, why_void(finite, ROWS), members
    )
  for name, value in variances.items():
    reason = "" if name.startswith("truth") else why_void(finite, ROWS)
    scores[name] = entry(bootstrap.Interval(value, np.nan, np.nan, 0), reason)
  return scores | proper_scores, fields | proper_fields


def dressed_scores(
  rows: Vectors, num_replicates: int, members: int = 1
) -> dict[str, Any]:
  """Returns the `dressed` field of a result row.

  Args:
    rows: dressed forecasts beside the truth.
    num_replicates: bootstrap replicates of the proper scores.
    members: as in `distribution_scores`.

  Returns:
    `scores` with Fréchet distance (without an interval), proper scores and
    calibration, and the fields of those by frame ahead.
  """
  finite = reduce(np.isfinite(rows.pred), "R S V -> R S", "all")
  with np.errstate(invalid="ignore"):
    scores, fields = _proper(
      rows, num_replicates, why_void(finite, ROWS), members
    )
  distance = bootstrap.Interval(frechet.fd_1(rows).value, np.nan, np.nan, 0)
  scores["fd_1"] = entry(distance, why_void(finite[:, :1], ROWS))
  return {"scores": scores, **fields}


def _variances(rows: Vectors) -> dict[str, float]:
  pooled = rows.pooled()
  return {
    "var_time": variance.var_time(pooled, rows.num_frames),
    "var_gauss": variance.var_gauss(pooled),
    "truth_var_time": variance.var_time(rows.truth, rows.num_frames),
    "truth_var_gauss": variance.var_gauss(rows.truth),
  }


def _proper(
  rows: Vectors, num_replicates: int, reason: str, members: int
) -> tuple[Scores, dict[str, Any]]:
  """Proper scores; `reason` says why they have no value, if so."""

  def mean(values):
    interval = bootstrap.mean_interval(
      values, rows.example, num_replicates=num_replicates
    )
    return entry(interval, reason)

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
    ),
    reason,
  )
  histogram = proper.rank_histogram(rows.pred, rows.truth)
  # Of few clips even a calibrated forecast's histogram is not quite flat.
  deviation = float(proper.rank_deviation(histogram)[0])
  scores["rank_deviation"] = entry(
    bootstrap.Interval(deviation, np.nan, np.nan, 0), reason
  )
  scores["spread"] = mean(np.square(rows.pred.std(axis=1, ddof=1)).mean(axis=1))
  if 1 < members < rows.num_samples:
    parts = variance.by_member(rows.pred, members)
    for name, part in zip(("spread_between", "spread_within"), parts):
      scores[name] = mean(part)
    by_lead["members"] = members
  return scores, by_lead | {
    "spread_skill_per_lead": ratio_per_lead(spread, error),
    "rank_histogram": histogram[0].tolist(),
    "rank_deviation_per_lead": proper.rank_deviation(
      proper.rank_histogram(rows.pred, rows.truth, rows.num_frames)
    ).tolist(),
  }


def means_per_lead(
  values: Float[Array, "B S Tf"], is_finite: Bool[Array, "B S Tf"]
) -> list[float]:
  """Returns the mean over samples, then clips, of every frame ahead.

  Args:
    values: NaN where there is none.
    is_finite: whether the forecast is; a frame has no mean unless all are.
  """
  return [
    aggregate.aggregate(values[..., lead], is_finite[..., lead]).mean
    for lead in range(values.shape[-1])
  ]


def ratio_per_lead(
  spread: Float[np.ndarray, "R Tf"], error: Float[np.ndarray, "R Tf"]
) -> list[float]:
  """Returns the spread-skill ratio of every future frame."""
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.sqrt(spread.sum(axis=0) / error.sum(axis=0)).tolist()


def secondary_scores(
  values: Mapping[str, Float[Array, "B S"]],
  num_replicates: int,
  is_finite: Bool[Array, "B S"],
) -> Scores:
  """Means of a task's further metrics over samples, then clips.

  Args:
    values: metric to values; NaN where there is none.
    num_replicates: bootstrap replicates.
    is_finite: whether the forecast is; if one is not, no score has a value.
  """
  reason = why_void(is_finite, FORECASTS)
  means = {
    name: aggregate.aggregate(value, is_finite).example_mean
    for name, value in values.items()
  }
  return {
    name: entry(
      bootstrap.mean_interval(mean, num_replicates=num_replicates), reason
    )
    for name, mean in means.items()
  }
