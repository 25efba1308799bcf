"""What a work folder holds for the report."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forecasting.report import missing_variance, results
from forecasting.report.columns import order_tasks
from forecasting.training.log import read_metrics


@dataclasses.dataclass(frozen=True)
class Run:
  """One work folder.

  Attributes:
    name: of the folder.
    rows: result rows.
    metrics: rows of the training curves; empty if there are none.
    panels: task to file of clips to show; empty if there are none.
    config: of the run; empty if it was not kept.
    calibration: where variance is missing; empty if it was not diagnosed.
  """

  name: str
  rows: Sequence[results.Row]
  metrics: Sequence[Mapping[str, Any]]
  panels: Mapping[str, Path]
  config: Mapping[str, Any]
  calibration: Mapping[str, Any]


def read_run(workdir: Path) -> Run:
  """Reads a work folder; everything but the result rows may be absent.

  Raises:
    FileNotFoundError: there are no result rows.
    ValueError: a file cannot be understood; names it.
  """
  rows = results.read_rows(workdir / results.FILE)
  if not rows:
    raise ValueError(
      f"{workdir / results.FILE} is empty: run forecasting.eval first"
    )
  config_path = workdir / "config.json"
  try:
    config = json.loads(config_path.read_text()) if config_path.exists() else {}
  except json.JSONDecodeError as error:
    raise ValueError(f"{config_path} is no JSON: {error}") from error
  paths = {path.stem: path for path in (workdir / "panels").glob("*.npz")}
  tasks = order_tasks({"task": task} for task in paths)
  return Run(
    name=workdir.resolve().name,
    rows=rows,
    metrics=read_metrics(workdir / "metrics.jsonl"),
    panels={task: paths[task] for task in tasks},
    config=config,
    calibration=missing_variance.read(workdir),
  )
