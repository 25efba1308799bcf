"""Scores of every frame ahead, and of clips longer than those of training.

A row has lists of one number per forecast frame (`..._per_lead`), and in
`horizon`, where longer clips were scored, the same of those.
"""

import csv
import io
import math
from collections.abc import Sequence

from forecasting.report import columns as cols
from forecasting.report import figures, tables
from forecasting.report.results import IDENTITY, Row
from forecasting.report.tables import Cell, Heading, Line, Table

# Field of a row -> what its axis is called; '' is the task's metric.
SCORES = {
  "metric_per_lead": "",
  "energy_score_per_lead": "energy score",
  "crps_per_lead": "CRPS",
  "rank_deviation_per_lead": "rank deviation",
}
_SPREAD_SKILL = "spread_skill_per_lead"
_USUAL, _LONGER = "usual", "longer"
# What longer clips do not change.
_ABOUT = (*IDENTITY, "kind", "metric", "unit", "higher_is_better")


def long_rows(rows: Sequence[Row]) -> list[Row]:
  """Returns the rows of longer clips, in the form of others.

  Args:
    rows: of any tasks; those that were scored on the usual clips alone are left
      out.
  """
  return [
    {name: row[name] for name in _ABOUT if name in row} | row["horizon"]
    for row in rows
    if row.get("horizon")
  ]


def first_frame(row: Row) -> int:
  """Returns the first frame that was scored."""
  return int(str(row.get("frames", "4..")).split("..")[0])


def all_tables(rows: Sequence[Row]) -> list[Table]:
  """Returns each task's metric by frame, and the scores of longer clips."""
  found = []
  longer = long_rows(rows)
  for task in cols.order_tasks(rows):
    chosen = [row for row in rows if row["task"] == task]
    found += _by_frame(chosen, f"{task}, by frame")
    if long := [row for row in longer if row["task"] == task]:
      found.append(_longer_table(long))
      found += _by_frame(long, f"{task}, longer clips, by frame")
  return found


def horizon_tables(rows: Sequence[Row]) -> list[Table]:
  """Returns the scores of longer clips; nothing if there are none."""
  longer = long_rows(rows)
  return [
    _longer_table([row for row in longer if row["task"] == task])
    for task in cols.order_tasks(longer)
  ]


def _longer_table(rows: Sequence[Row]) -> Table:
  return tables.task_table(rows, f"{rows[0]['task']}, longer clips")


def drawn(rows: Sequence[Row]) -> list[figures.Figure]:
  """Draws what rows have of every frame but the spread-skill ratio."""
  found = [
    figures.by_frame(
      rows,
      field,
      name or None,
      f"{_capital(name)} of every forecast frame by itself.",
    )
    for field, name in SCORES.items()
  ]
  longer = long_rows(rows)
  ends = {
    row["task"]: first_frame(row) + len(row["metric_per_lead"]) - 0.5
    for row in rows
    if row.get("metric_per_lead")
  }
  found += [
    figures.by_frame(
      longer,
      field,
      name or None,
      f"{_capital(name)} of every forecast frame of longer clips. Dotted: what"
      " comes after it is beyond the frames of training.",
      ends=ends,
    )
    for field, name in SCORES.items()
  ]
  return [figure for figure in found if figure is not None]


def to_csv(rows: Sequence[Row]) -> str:
  """Returns every score of every frame, unrounded, one line each."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow([*IDENTITY, "clips", "score", "frame", "value"])
  for clips, chosen in ((_USUAL, rows), (_LONGER, long_rows(rows))):
    for row in chosen:
      for field in (*SCORES, _SPREAD_SKILL):
        score = field.removesuffix("_per_lead")
        score = row["metric"] if score == "metric" else score
        for frame, value in enumerate(row.get(field) or (), first_frame(row)):
          about = (row[name] for name in IDENTITY)
          writer.writerow([*about, clips, score, frame, value])
  return text.getvalue()


def _capital(name: str) -> str:
  return name[:1].upper() + name[1:] if name else "The task's metric"


def _by_frame(rows: Sequence[Row], title: str) -> list[Table]:
  """Returns the metric of rows of one task, a column per frame."""
  rows = [row for row in cols.order_rows(rows) if row.get("metric_per_lead")]
  if not rows:
    return []
  values = [_numbers(row["metric_per_lead"]) for row in rows]
  start, length = first_frame(rows[0]), max(map(len, values))
  text = cols.number_format(value for line in values for value in line)
  lines = [
    Line(
      f"{label} [S={row['num_samples']}]",
      row.get("kind", ""),
      tuple(
        Cell(text(line[i]) if i < len(line) else cols.MISSING)
        for i in range(length)
      ),
    )
    for label, row, line in zip(tables.row_labels(rows), rows, values)
  ]
  headings = tuple(Heading(str(start + i)) for i in range(length))
  metric = cols.METRIC_TITLES.get(rows[0]["metric"], rows[0]["metric"])
  aim = cols.ARROWS["up" if rows[0]["higher_is_better"] else "down"]
  unit = rows[0].get("unit", "")
  parts = (text.factor, "" if unit == "1" else unit)
  unit = " ".join(part for part in parts if part)
  note = (
    f"{metric} {aim}{f' ({unit})' if unit else ''} of every frame by itself"
  )
  return [Table(title, headings, tuple(lines), (note,))]


def _numbers(values: Sequence[float | None]) -> list[float]:
  return [math.nan if value is None else value for value in values]
