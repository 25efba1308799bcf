"""Which rows of a table are marked best, and on what grounds.

The best row is marked with all that are not significantly worse. Without any
interval nothing is: a smallest number is no evidence.
"""

import math
from collections.abc import Sequence

import numpy as np

from forecasting.metrics.bootstrap import Interval, compare_means
from forecasting.metrics.frechet_bootstrap import (
  MIN_FOR_PERCENTILES,
  replicate_interval,
)
from forecasting.report.columns import Column
from forecasting.report.results import Row, score

NOTE = (
  "bold: the best row, oracle apart, and all that are not significantly worse"
  " at 95 %: mean and best-of-S by paired bootstrap over clips, FD₁ by its"
  f" replicates over the same clips (fewer than {MIN_FOR_PERCENTILES}: by their"
  " standard deviation), other columns, and rows of other clips, if the two"
  " bootstrap intervals overlap; columns without intervals have no bold numbers"
)


def best_rows(column: Column, rows: Sequence[Row]) -> set[int]:
  """Returns the positions of the rows to mark, oracles apart.

  A Fréchet distance over more rows is less biased, so where a column says so
  only the forecasts with the most samples compete.

  Args:
    column: whose numbers.
    rows: of one task.

  Returns:
    The best and all that are not decided to be worse; none if the best cannot
    be tested against any other.
  """
  competing = [i for i, row in enumerate(rows) if row.get("kind") != "oracle"]
  if column.same_samples:
    most = max((rows[i]["num_samples"] for i in competing), default=0)
    competing = [i for i in competing if rows[i]["num_samples"] == most]
  distances = {i: column.distance(rows[i]) for i in competing}
  distances = {i: d for i, d in distances.items() if math.isfinite(d)}
  if not distances:
    return set()
  best = min(distances, key=distances.get)
  others = [i for i in distances if i != best]
  worse = {i: _is_worse(column, rows[i], rows[best]) for i in others}
  if all(found is None for found in worse.values()):
    return set()
  return {best} | {i for i, found in worse.items() if found is False}


def _is_worse(column: Column, row: Row, best: Row) -> bool | None:
  """Returns whether a row is decided to be worse; None without a test."""
  paired = _paired(column, row, best)
  if paired is not None:
    return paired.low > 0
  ends = [_distances(column, side) for side in (row, best)]
  if None in ends:
    return None
  return ends[0][0] > ends[1][1]


def _paired(column: Column, row: Row, best: Row) -> Interval | None:
  """Returns by how much a row is worse, of the same clips drawn again."""
  clips = {side.get("eval_list_hash") for side in (row, best)}
  if len(clips) > 1 or None in clips:
    return None
  sides = [_values(column, side) for side in (row, best)]
  if any(x is None for x in sides) or len(sides[0]) != len(sides[1]):
    return None
  if column.key == "fd_1":
    value = score(row, "fd_1") - score(best, "fd_1")
    found = replicate_interval(value, sides[0] - sides[1], 0)
  else:
    # Distances, so that less is better in every column.
    sign = -1.0 if column.aim == "up" else 1.0
    found = compare_means(
      *(sign * side for side in sides), higher_is_better=False
    ).difference
  return None if math.isnan(found.low) else found


def _values(column: Column, row: Row) -> np.ndarray | None:
  """Returns what is drawn again: values of clips, or replicates."""
  if column.key == "fd_1":
    values = row.get("fd_1_replicates")
  elif column.key in ("mean", "best"):
    values = (row.get("clips") or {}).get(column.key)
  else:
    values = None
  return np.array(values, np.float64) if values else None


def _distances(column: Column, row: Row) -> tuple[float, float] | None:
  """Returns the ends of a row's interval as distances from the best value."""
  entry = row["scores"].get(column.key, {})
  ends = [entry.get(end) for end in ("low", "high")]
  if any(end is None or not math.isfinite(end) for end in ends):
    return None
  if column.aim == "one":
    if min(ends) <= 0:
      return None
    logs = [math.log(end) for end in ends]
    near = 0.0 if logs[0] <= 0 <= logs[1] else min(map(abs, logs))
    return near, max(map(abs, logs))
  if column.aim == "up":
    return -ends[1], -ends[0]
  return (ends[0], ends[1]) if column.aim == "down" else None
