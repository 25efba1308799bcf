"""Result rows -> tables of text that `markup` writes in several languages."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from forecasting.report import columns as cols
from forecasting.report import marking
from forecasting.report.results import Row, nonfinite, score


@dataclasses.dataclass(frozen=True)
class Cell:
  """One entry.

  Attributes:
    text: of the value.
    note: in small type below it: its interval, or the truth's value.
    is_best: whether it is the best of its column.
    flag: mark that a footnote explains.
    reason: why there is no value.
  """

  text: str
  note: str = ""
  is_best: bool = False
  flag: str = ""
  reason: str = ""


@dataclasses.dataclass(frozen=True)
class Heading:
  """One column's heading: label, arrow of direction, unit and factor."""

  label: str
  arrow: str = ""
  unit: str = ""


@dataclasses.dataclass(frozen=True)
class Line:
  """One row: its label, what it is, its cells."""

  label: str
  kind: str
  cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table ready to be written.

  Attributes:
    title: above it.
    headings: of all columns but the first.
    lines: its rows.
    footnotes: below it.
    first: heading of the first column.
  """

  title: str
  headings: tuple[Heading, ...]
  lines: tuple[Line, ...]
  footnotes: tuple[str, ...] = ()
  first: str = "Forecaster"


def run_label(row: Row) -> str:
  """Returns the text that tells a row's run from others."""
  return f"{row['name']} · {row['backbone']} · seed {row['seed']}"


def row_labels(rows: Sequence[Row]) -> list[str]:
  """Returns forecaster names, with their run where there are several runs."""
  runs = {run_label(row) for row in rows}
  if len(runs) == 1:
    return [row["forecaster"] for row in rows]
  return [f"{row['forecaster']} ({run_label(row)})" for row in rows]


def task_table(rows: Sequence[Row], title: str = "") -> Table:
  """Returns the table of all forecasters of one task.

  Args:
    rows: of one task, of one or several runs.
    title: above it; empty: the task's name.
  """
  rows = cols.order_rows(rows)
  columns = cols.task_columns(rows[0])
  reasons: dict[str, str] = {}
  by_column = [_column(column, rows, reasons) for column in columns]
  headings = [heading for heading, _ in by_column]
  headings += [Heading("Calls", unit="/ sample"), Heading("N", unit="rows")]
  lines = []
  for number, (label, row) in enumerate(zip(row_labels(rows), rows)):
    cells = [cells[number] for _, cells in by_column]
    cells += _counts(row)
    text = f"{label} [S={row['num_samples']}]"
    lines.append(Line(text, row.get("kind", ""), tuple(cells)))
  notes = [*_marked(by_column), *_footnotes(rows, reasons)]
  title = title or rows[0]["task"]
  return Table(title, tuple(headings), tuple(lines), tuple(notes))


def _marked(by_column: Sequence[tuple[Heading, list[Cell]]]) -> list[str]:
  """Returns what bold numbers mean, if there are any."""
  is_any = any(cell.is_best for _, cells in by_column for cell in cells)
  return [marking.NOTE] if is_any else []


def _column(
  column: cols.Column, rows: Sequence[Row], reasons: dict[str, str]
) -> tuple[Heading, list[Cell]]:
  """Heading and cells of one score; `reasons` collects footnote letters."""
  text = cols.column_format(column, rows)
  best = marking.best_rows(column, rows)
  cells = []
  for number, row in enumerate(rows):
    value = score(row, column.key)
    if value != value:
      reason = cols.missing_reason(row, column.key)
      letter = reasons.setdefault(reason, chr(ord("a") + len(reasons)))
      cells.append(Cell(cols.MISSING, flag=letter, reason=reason))
      continue
    ends = cols.interval(row, column.key)
    note = f"[{text(ends[0])}, {text(ends[1])}]" if ends else ""
    if column.truth:
      note = f"truth {text(score(row, column.truth))}"
    deficient = column.key in ("fd", "fd_1") and row.get("rank_deficient")
    flag = "†" if deficient else ""
    cells.append(Cell(text(value), note, number in best, flag))
  unit = " ".join(part for part in (text.factor, column.unit) if part)
  return Heading(column.label, cols.ARROWS[column.aim], unit), cells


def _counts(row: Row) -> list[Cell]:
  calls = row.get("calls_per_sample")
  clips = f"{row['num_examples']} clips"
  rows = row.get("num_rows")
  return [
    Cell(cols.MISSING if calls is None else f"{calls:g}"),
    Cell(cols.MISSING if rows is None else str(rows), clips),
  ]


def _footnotes(rows: Sequence[Row], reasons: dict[str, str]) -> list[str]:
  notes = []
  if any(row.get("rank_deficient") for row in rows):
    sizes = {tuple(row.get("fd_rows", ())) for row in rows}
    sizes = " and ".join(
      sorted(f"{size[0]} / {size[1]}" for size in sizes if len(size) == 2)
    )
    notes.append(
      "† rank-deficient: no more rows than dimensions, so the covariances are "
      f"singular and the distance is biased (rows of truth / forecast: {sizes})"
    )
  notes += [f"{letter}: {reason}" for reason, letter in reasons.items()]
  broken = list(filter(None, map(nonfinite, rows)))
  if broken:
    notes.append(
      "forecasts that are not finite (NaN or infinite), so that scores that"
      " would use them have no value: " + ", ".join(broken)
    )
  excluded = {
    f"{row['forecaster']} {row['num_excluded']}"
    for row in rows
    if row.get("num_excluded")
  }
  if excluded:
    notes.append(
      "clips excluded, having nothing to score: " + ", ".join(sorted(excluded))
    )
  dropped = {row.get("num_rows_dropped") for row in rows} - {None, 0}
  if dropped:
    notes.append(
      "rows left out of distribution scores, incomplete in the truth: "
      + ", ".join(str(number) for number in sorted(dropped))
    )
  skipped = {
    f"{reason} {number}"
    for row in rows
    for reason, number in (row.get("skipped") or {}).items()
    if number
  }
  notes.append(
    "skipped by the data reader: " + (", ".join(sorted(skipped)) or "nothing")
  )
  return notes


FUTURES = (
  cols.Column("energy_score", "Energy score", "down"),
  cols.Column("true_sampler_energy_score", "… of the true sampler"),
  cols.Column("oracle_readout_energy_score", "… of the readout of the truth"),
  cols.Column("relative_energy_score", "Relative energy score", "down"),
  cols.Column("spread_skill", "Spread-skill", "one"),
)


# Plain scores stand beside the dressed ones to be compared with, not ranked.
DRESSED = (
  cols.Column("plain_fd_1", "FD₁"),
  cols.Column("dressed_fd_1", "… dressed", "down"),
  cols.Column("plain_energy_score", "Energy score"),
  cols.Column("dressed_energy_score", "… dressed", "down"),
  cols.Column("plain_spread_skill", "Spread-skill"),
  cols.Column("dressed_spread_skill", "… dressed", "one"),
  cols.Column("plain_known_relative_energy_score", "Relative energy score"),
  cols.Column("dressed_known_relative_energy_score", "… dressed", "down"),
  cols.Column("plain_known_spread_skill", "Spread-skill, known futures"),
  cols.Column("dressed_known_spread_skill", "… dressed", "one"),
  cols.Column("widening", "Widened by"),
)


def futures_table(rows: Sequence[Row]) -> Table | None:
  """Returns the scores against several true futures; None without any.

  Args:
    rows: of one task.
  """
  rows = [row for row in cols.order_rows(rows) if row.get("futures")]
  if not rows:
    return None
  counts = [
    Cell(
      str(known.get("rows", cols.MISSING)),
      f"{known.get('contexts', '?')} contexts × {known.get('futures', '?')}",
    )
    for known in (row["futures"] for row in rows)
  ]
  return _part_table(
    rows,
    [futures_scores(row) for row in rows],
    FUTURES,
    "known futures",
    (Heading("N", unit="rows"), counts),
  )


def dressed_table(rows: Sequence[Row]) -> Table | None:
  """Returns the scores of dressed forecasts beside the plain ones.

  Args:
    rows: of one task; those that were not dressed are left out.
  """
  rows = [row for row in cols.order_rows(rows) if row.get("dressed")]
  if not rows:
    return None
  scores = [_plain_and_dressed(row) for row in rows]
  columns = [c for c in DRESSED if any(c.key in found for found in scores)]
  return _part_table(rows, scores, columns, "dressed")


def _plain_and_dressed(row: Row) -> dict[str, Any]:
  """Returns a row's scores with and without errors, told by a prefix."""
  known = row.get("futures") or {}
  sources = {
    "plain_": row["scores"],
    "dressed_": row["dressed"]["scores"],
    "plain_known_": known,
    "dressed_known_": known.get("dressed") or {},
  }
  scores = {
    prefix + name: value
    for prefix, source in sources.items()
    for name, value in source.items()
  }
  if widening := row["dressed"].get("widening_per_lead"):
    scores["widening"] = {"value": sum(widening) / len(widening)}
  return scores


def _part_table(
  rows: Sequence[Row],
  scores: Sequence[Mapping[str, Any]],
  columns: Sequence[cols.Column],
  title: str,
  last: tuple[Heading, Sequence[Cell]] | None = None,
) -> Table:
  """Returns a table of other scores than those that rows have themselves."""
  views = [{**row, "scores": found} for row, found in zip(rows, scores)]
  reasons: dict[str, str] = {}
  unit = "m" if rows[0]["task"] == "depth" else ""
  by_column = []
  for column in columns:
    if column.key.endswith("energy_score") and "relative" not in column.key:
      column = dataclasses.replace(column, unit=unit)
    elif column.key.endswith("fd_1") and unit:
      column = dataclasses.replace(column, unit="m²")
    by_column.append(_column(column, views, reasons))
  lines = []
  for number, (label, row) in enumerate(zip(row_labels(rows), rows)):
    cells = [cells[number] for _, cells in by_column]
    cells += [last[1][number]] if last else []
    text = f"{label} [S={row['num_samples']}]"
    lines.append(Line(text, row.get("kind", ""), tuple(cells)))
  headings = [heading for heading, _ in by_column]
  headings += [last[0]] if last else []
  notes = _marked(by_column)
  notes += [f"{letter}: {reason}" for reason, letter in reasons.items()]
  return Table(
    f"{rows[0]['task']}, {title}",
    tuple(headings),
    tuple(lines),
    tuple(notes),
  )


def futures_scores(row: Row) -> dict[str, dict]:
  """Returns the `futures` field of a row in the form of `scores`."""
  return {
    column.key: value if isinstance(value, dict) else {"value": value}
    for column in FUTURES
    if (value := row["futures"].get(column.key)) is not None
  }


def all_tables(rows: Sequence[Row]) -> list[Table]:
  """Returns the tables of every task, known futures and dressed included."""
  tables = []
  for task in cols.order_tasks(rows):
    chosen = [row for row in rows if row["task"] == task]
    tables.append(task_table(chosen))
    if (known := futures_table(chosen)) is not None:
      tables.append(known)
    if (dressed := dressed_table(chosen)) is not None:
      tables.append(dressed)
  return tables
