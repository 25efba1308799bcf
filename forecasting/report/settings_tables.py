"""Runs that differ in their settings alone: one line each, averaged over seeds.

The settings of the first run are the reference; the others are told by how far
they are from it, seed by seed.
"""

import math
from collections.abc import Iterable, Sequence

from forecasting.report import columns as cols
from forecasting.report.models import deviation, mean, model_of
from forecasting.report.results import Row, score
from forecasting.report.tables import Cell, Heading, Line, Table

_SCORES = ("energy_score", "spread_skill", "fd_1", "mean", "best", "perception")
_NOTES = (
  "±: standard deviation over seeds",
  "Δ: mean difference of the energy score to the first line, seed by seed,"
  " with its standard error; less is better",
)


def is_settings(rows: Sequence[Row]) -> bool:
  """Returns whether rows are of several settings of one backbone."""
  backbones = {(m.backbone, m.weights) for m in map(model_of, rows)}
  return len(backbones) == 1 and len({row["name"] for row in rows}) > 1


def settings_tables(rows: Sequence[Row]) -> list[Table]:
  """Returns a table for every task and forecaster that was trained.

  Args:
    rows: of one backbone; the first row's settings are the reference.
  """
  tables = []
  trained = [row for row in rows if row.get("kind") == "trained"]
  for task in cols.order_tasks(trained):
    mine = [row for row in trained if row["task"] == task]
    for forecaster in dict.fromkeys(row["forecaster"] for row in mine):
      chosen = [row for row in mine if row["forecaster"] == forecaster]
      tables.append(_table(f"{task}: settings of {forecaster}", chosen))
  return tables


def _table(title: str, rows: Sequence[Row]) -> Table:
  by_name: dict[str, list[Row]] = {}
  for row in rows:
    by_name.setdefault(row["name"], []).append(row)
  columns = {column.key: column for column in cols.task_columns(rows[0])}
  shown = [columns[key] for key in _SCORES]
  reference = next(iter(by_name.values()))
  lines = []
  for name, mine in by_name.items():
    cells = [_cell(score(row, column.key) for row in mine) for column in shown]
    cells.insert(1, _difference(mine, reference))
    seeds = len({row["seed"] for row in mine})
    lines.append(Line(name, f"{seeds} seeds", tuple(cells)))
  headings = [
    Heading(column.label, cols.ARROWS[column.aim], column.unit)
    for column in shown
  ]
  headings.insert(1, Heading("Δ energy score", cols.ARROWS["down"]))
  return Table(title, tuple(headings), tuple(lines), _NOTES, "Settings")


def _cell(scores: Iterable[float]) -> Cell:
  """Returns the mean over seeds, with its deviation."""
  values = [value for value in scores if not math.isnan(value)]
  if not values:
    return Cell(cols.MISSING, reason="not computed for these rows")
  note = f"±{deviation(values):.2g}" if len(values) > 1 else ""
  return Cell(f"{mean(values):.4g}", note)


def _difference(rows: Sequence[Row], reference: Sequence[Row]) -> Cell:
  """Returns how the energy score differs, over seeds that both have."""
  if rows is reference:
    return Cell("reference")
  theirs = {row["seed"]: score(row, "energy_score") for row in reference}
  differences = [
    score(row, "energy_score") - theirs[row["seed"]]
    for row in rows
    if row["seed"] in theirs
  ]
  differences = [value for value in differences if not math.isnan(value)]
  if not differences:
    return Cell(cols.MISSING, reason="no seed in common")
  note = ""
  if len(differences) > 1:
    error = deviation(differences) / math.sqrt(len(differences))
    note = f"±{error:.2g}"
  return Cell(f"{mean(differences):+.3g}", note)
