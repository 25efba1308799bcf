"""The result row: what one forecaster scored on one task.

`results.jsonl` holds one JSON object per (name, backbone, task, forecaster,
seed). Writing replaces rows with the same identity, so evaluating again never
leaves two answers, and goes through a rename, so a killed run leaves the old
file whole.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FILE = "results.jsonl"  # Of a workdir.
IDENTITY = ("name", "backbone", "task", "forecaster", "seed")
REQUIRED = (
  *IDENTITY,
  "metric",
  "higher_is_better",
  "num_examples",
  "num_samples",
  "scores",
)

# Of a row of longer clips, what the row of the usual ones tells of them.
_OF_HORIZON = (
  "frames",
  "num_examples",
  "num_excluded",
  "num_nan",
  "num_nonfinite",
  "num_rows",
  "num_rows_dropped",
  "num_samples",
  "calls_per_sample",
  "rank_deficient",
  "fd_rows",
  "skipped",
  "eval_list_hash",
  "scores",
)

Row = dict[str, Any]


def identity(row: Mapping[str, Any]) -> tuple:
  """Returns what makes a row unique."""
  return tuple(row[key] for key in IDENTITY)


def read_rows(path: Path) -> list[Row]:
  """Reads result rows.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if a line is no result row; names the file, line and field.
  """
  if not path.exists():
    raise FileNotFoundError(
      f"{path} does not exist: run forecasting.main or forecasting.eval first"
    )
  rows = []
  for number, line in enumerate(path.read_text().splitlines(), 1):
    try:
      row = json.loads(line)
      missing = [key for key in REQUIRED if key not in row]
    except (json.JSONDecodeError, TypeError) as error:
      raise ValueError(f"{path}:{number} is no result row: {error}") from error
    if missing:
      raise ValueError(f"{path}:{number} lacks {', '.join(missing)}")
    rows.append(row)
  return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
  """Adds rows to a file, in place of those with the same identity."""
  kept = (
    {identity(row): row for row in read_rows(path)} if path.exists() else {}
  )
  kept |= {identity(row): row for row in rows}
  text = "".join(f"{json.dumps(_plain(row))}\n" for row in kept.values())
  partial = path.with_name(f"{path.name}.tmp")
  with open(partial, "w") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  partial.rename(path)


def of_horizon(row: Mapping[str, Any]) -> Row:
  """Returns the `horizon` of a row, from the row of its longer clips."""
  return {
    name: value
    for name, value in row.items()
    if name in _OF_HORIZON or name.endswith("_per_lead")
  }


def score(row: Mapping[str, Any], name: str) -> float:
  """Returns a row's score, NaN if it has none."""
  value = row["scores"].get(name, {}).get("value")
  return math.nan if value is None else float(value)


def nonfinite(row: Mapping[str, Any]) -> str:
  """Says which forecaster gave how many forecasts that are no numbers.

  Args:
    row: of any revision; old ones do not say.

  Returns:
    Empty if all are finite.
  """
  count = row.get("num_nonfinite")
  if not count:
    return ""
  total = (row["num_examples"] + row["num_excluded"]) * row["num_samples"]
  return f"{row['forecaster']} {count} of {total}"


def _plain(value: Any) -> Any:
  """JSON has no NaN: undefined numbers are written as null."""
  if isinstance(value, Mapping):
    return {key: _plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
