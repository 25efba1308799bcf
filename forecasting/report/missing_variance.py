"""Where variance is missing: what `diagnose calibration` found, and ensembles.

The diagnosis writes a file into the work folder of its run; members of an
ensemble leave the two parts of their samples' variance in the result rows.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forecasting.report import columns as cols
from forecasting.report import tables
from forecasting.report.results import Row, score
from forecasting.report.tables import Cell, Heading, Line, Table

FILE_NAME = "calibration.json"
_PARTS = ("readout", "forecaster", "sampler", "all")
_NOTES = (
  "share of the variance that is left after each part; 1 is right, and the"
  " product of the three is what the forecasts have of the truth's",
  "readout: of the true future latents; forecaster: sampled with so many calls"
  " that the sampler adds nothing; sampler: the run's own, same weights",
)


def read(workdir: Path) -> Mapping[str, Any]:
  """Reads what the diagnosis found; nothing if it was not made.

  Raises:
    ValueError: the file cannot be understood; names it.
  """
  path = workdir / FILE_NAME
  if not path.exists():
    return {}
  try:
    found = json.loads(path.read_text())
    for entry in found.values():
      entry["gaps"].items(), entry["rows"].items(), entry["calls"]
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise ValueError(
      f"{path} is not what forecasting.diagnose calibration writes"
      f" ({error!r}): make it again, or delete it"
    ) from error
  return found


def table(found: Mapping[str, Any], run: str = "") -> Table | None:
  """Returns the gaps of every task; None if there was no diagnosis.

  Args:
    found: of `read`.
    run: its name, if several are shown.
  """
  if not found:
    return None
  lines, notes = [], list(_NOTES)
  for task in cols.order_tasks({"task": task} for task in found):
    entry = found[task]
    for name, gaps in entry["gaps"].items():
      cells = tuple(_gap(gaps.get(part)) for part in _PARTS)
      lines.append(Line(f"{task}, {name}", "trained", cells))
    scores = [
      entry["rows"].get(label, {}).get("energy_score")
      for label in ("reference", "default")
    ]
    if None not in scores and len(entry["calls"]) == 2:
      many, own = entry["calls"]
      notes.append(
        f"{task}: energy score {scores[1]:.4g} with {own} calls,"
        f" {scores[0]:.4g} with {many}"
      )
  title = "Where variance is missing" + (f" · {run}" if run else "")
  headings = tuple(Heading(part) for part in _PARTS)
  return Table(title, headings, tuple(lines), tuple(notes), "Variance")


def _gap(value: float | None) -> Cell:
  if value is None or not math.isfinite(value):
    return Cell(cols.MISSING, reason="not defined for this variance")
  return Cell(f"{value:.3f}")


def ensemble_table(rows: Sequence[Row]) -> Table | None:
  """Returns what the members of ensembles agree on; None without any.

  Args:
    rows: of any tasks.
  """
  rows = [row for row in rows if "spread_between" in row["scores"]]
  lines = []
  for task in cols.order_tasks(rows):
    chosen = cols.order_rows(row for row in rows if row["task"] == task)
    for label, row in zip(tables.row_labels(chosen), chosen):
      between, within = (
        score(row, f"spread_{part}") for part in ("between", "within")
      )
      share = between / (between + within) if between + within else math.nan
      cells = (
        Cell(str(row.get("members", cols.MISSING))),
        _variance(row, "spread"),
        _variance(row, "spread_between"),
        _variance(row, "spread_within"),
        _gap(share),
      )
      kind = row.get("kind", "")
      lines.append(
        Line(f"{task}, {label} [S={row['num_samples']}]", kind, cells)
      )
  if not lines:
    return None
  names = ("Members", "Variance", "Between members", "Within", "Share between")
  return Table(
    "Ensembles",
    tuple(map(Heading, names)),
    tuple(lines),
    (
      "between: what trainings disagree on, the uncertainty of the model;"
      " within: what the samples of one training disagree on, that of the"
      " future",
      "between is corrected for the few samples of a member, and may be"
      " negative where members agree; in squared units of the rows",
    ),
  )


def _variance(row: Row, name: str) -> Cell:
  value, ends = score(row, name), cols.interval(row, name)
  if math.isnan(value):
    return Cell(cols.MISSING, reason=cols.missing_reason(row, name))
  note = f"[{ends[0]:.3g}, {ends[1]:.3g}]" if ends else ""
  return Cell(f"{value:.3g}", note)
