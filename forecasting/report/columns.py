"""What tables show: order of rows, headings, directions, number format."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from forecasting.report.results import Row, score

MISSING = "–"
TASK_ORDER = ("pixels", "depth", "points", "boxes")
KINDS = ("trained", "baseline", "oracle")
METRIC_TITLES = {"psnr": "PSNR", "absrel": "AbsRel", "aj": "AJ", "iou": "IoU"}
METRIC_NAMES = {
  "psnr": "peak signal-to-noise ratio (PSNR)",
  "absrel": "mean absolute relative error of depth (AbsRel)",
  "aj": "Average Jaccard of point tracks (AJ)",
  "iou": "mean intersection over union of boxes (IoU)",
}
ARROWS = {"up": "↑", "down": "↓", "one": "→1", "truth": "→truth", "": ""}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclasses.dataclass(frozen=True)
class Column:
  """One score of a table.

  Attributes:
    key: its name in `scores`.
    label: heading.
    aim: 'up', 'down', 'one' (closest to 1), 'truth' (closest to the truth's
      value) or '' (neither is better).
    unit: of the numbers, empty if 1.
    truth: name of the score that holds the truth's value.
    same_samples: whether only forecasts with the same number of samples may
      be compared.
  """

  key: str
  label: str
  aim: str = ""
  unit: str = ""
  truth: str = ""
  same_samples: bool = False

  def distance(self, row: Row) -> float:
    """Returns how far a row is from the best value; NaN if it has none."""
    value = score(row, self.key)
    if self.aim == "up":
      return -value
    if self.aim == "down":
      return value
    if self.aim == "one":
      return abs(math.log(value)) if value > 0 else math.nan
    if self.aim == "truth":
      return abs(value - score(row, self.truth))
    return math.nan


def task_columns(row: Row) -> list[Column]:
  """Returns the columns of a task's table.

  Args:
    row: any row of the task; says which metric and unit it has.
  """
  metric = METRIC_TITLES.get(row["metric"], row["metric"])
  aim = "up" if row["higher_is_better"] else "down"
  unit = row.get("unit", "")
  unit = "" if unit == "1" else unit
  # Distances are between vectors of the task's outputs: meters for depth,
  # shares of the intensity range or of the image's side for the others.
  length = "m" if row["task"] == "depth" else ""
  area = "m²" if length else ""
  columns = [
    Column("mean", f"{metric} mean", aim, unit),
    Column("std", f"{metric} std", "", unit),
    Column("best", f"{metric} best-of-S", aim, unit),
    Column("perception", f"{metric} perception", "", unit),
    Column("fd", "FD", "down", area, same_samples=True),
    Column("fd_1", "FD₁", "down", area),
    Column("var_time", "Var time", "truth", area, "truth_var_time"),
    Column("var_gauss", "Var Gauss", "truth", area, "truth_var_gauss"),
    Column("energy_score", "Energy score", "down", length),
    Column("crps", "CRPS", "down", length),
    Column("spread_skill", "Spread-skill", "one"),
    Column("rank_deviation", "Rank deviation", "down", same_samples=True),
  ]
  if row["task"] == "points":
    columns[4:4] = [
      Column("occlusion_accuracy", "Occlusion acc.", "up"),
      Column("delta_avg", "δ avg", "up"),
    ]
  return columns


def order_rows(rows: Iterable[Row]) -> list[Row]:
  """Returns rows with trained forecasters first, then baselines, oracles."""
  order = {kind: number for number, kind in enumerate(KINDS)}
  return sorted(rows, key=lambda row: order.get(row.get("kind"), len(KINDS)))


def order_tasks(rows: Iterable[Row]) -> list[str]:
  """Returns the tasks of rows in their usual order."""
  found = dict.fromkeys(row["task"] for row in rows)
  order = {task: number for number, task in enumerate(TASK_ORDER)}
  return sorted(found, key=lambda task: order.get(task, len(order)))


@dataclasses.dataclass(frozen=True)
class NumberFormat:
  """Writes the numbers of one column alike.

  Attributes:
    exponent: numbers are shown divided by 10 to this power.
    decimals: digits after the point.
  """

  exponent: int = 0
  decimals: int = 3

  def __call__(self, value: float | None) -> str:
    """Returns the text of a number, a dash if it is not finite."""
    if value is None or not math.isfinite(value):
      return MISSING
    scaled = value / 10.0**self.exponent
    if scaled != 0 and abs(scaled) < 10.0 ** (1 - self.decimals):
      # An outlier of the column keeps two digits rather than showing 0.00.
      return f"{scaled:.1e}" if abs(scaled) < 1e-4 else f"{scaled:.2g}"
    text = f"{scaled:.{self.decimals}f}"
    return text if abs(scaled) < 1e6 else f"{scaled:.2e}"

  @property
  def factor(self) -> str:
    """What shown numbers are to be multiplied by, empty if 1."""
    if self.exponent == 0:
      return ""
    return f"×10{str(self.exponent).translate(_SUPERSCRIPT)}"


def number_format(values: Iterable[float | None]) -> NumberFormat:
  """Chooses a format that gives the column's typical number 3 to 4 digits."""
  sizes = [
    abs(value)
    for value in values
    if value is not None and math.isfinite(value) and value != 0
  ]
  if not sizes:
    return NumberFormat()
  typical = statistics.median(sizes)
  magnitude = math.floor(math.log10(typical))
  exponent = 0
  if magnitude < -1 or magnitude > 4:
    exponent = 3 * round(magnitude / 3)
  return NumberFormat(exponent, max(0, min(3, 2 - (magnitude - exponent))))


def column_format(column: Column, rows: Sequence[Row]) -> NumberFormat:
  """Returns the format of a column's numbers.

  A standard deviation is written as the mean it belongs to, with one more
  digit.
  """
  if column.key == "std":
    mean = number_format(score(row, "mean") for row in rows)
    return NumberFormat(mean.exponent, min(3, mean.decimals + 1))
  return number_format(score(row, column.key) for row in rows)


def missing_reason(row: Row, key: str) -> str:
  """Returns why a row has no value of a score."""
  if reason := row["scores"].get(key, {}).get("reason"):
    return reason
  if row["num_samples"] == 1 and key in ("spread_skill", "rank_deviation"):
    return "one sample has no spread"
  if row.get("num_rows") == 0:
    return "no trajectory is complete in the truth"
  if key not in row["scores"]:
    return "not computed for this row"
  return "undefined on this evaluation (no valid frames, or not finite)"


def interval(row: Row, key: str) -> tuple[float, float] | None:
  """Returns the ends of a score's 95 % interval, None if it has no width."""
  entry: Mapping = row["scores"].get(key, {})
  ends = (entry.get("low"), entry.get("high"))
  if any(end is None or not math.isfinite(end) for end in ends):
    return None
  return ends if ends[0] != ends[1] else None
