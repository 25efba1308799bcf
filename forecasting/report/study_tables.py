"""The paper's Tables 2, 3 and 6 over all models of a study.

Every cell has ours, its deviation over seeds, and what the paper printed for
the model, or one of the same family; `scale.py` says how far they are apart.
"""

import dataclasses
import math
from collections.abc import Sequence

from forecasting.metrics.frechet_bootstrap import MIN_FOR_PERCENTILES
from forecasting.report import columns as cols
from forecasting.report import paper, scale
from forecasting.report.correlation import Correlation
from forecasting.report.findings import HELD, Finding
from forecasting.report.models import (
  DIFFUSION,
  REGRESSION,
  Model,
  Study,
  is_higher_better,
  mean,
)
from forecasting.report.significance import Difference, compare, leaders
from forecasting.report.tables import Cell, Heading, Line, Table

SEEDS_NOTE = "±: standard deviation over seeds"
BOLD_NOTE = (
  "bold: the best, and every model that is not decided to be worse (95 %,"
  " paired bootstrap over clips); findings and comparisons.csv have the"
  " differences"
)
FRECHET_NOTE = (
  "intervals of Fréchet distances are percentiles of bootstrap replicates over"
  f" clips, or, of fewer than {MIN_FOR_PERCENTILES}, ±1.96 of their standard"
  " deviation"
)
_PER_EXAMPLE = (
  ("mean", "Mean"),
  ("std", "Std"),
  ("best", "Best-of-S"),
  ("perception", "Perception"),
)


def study_tables(study: Study) -> list[Table]:
  """Returns Tables 6, 2 and 3, task by task."""
  tables = []
  for task in cols.order_tasks(study.rows):
    tables.append(per_example_table(study, task))
    tables.append(distribution_table(study, task))
    if (table := ablation_table(study, task)) is not None:
      tables.append(table)
  return tables


def per_example_table(study: Study, task: str) -> Table:
  """Returns Table 6 of one task: mean, std, best and perception."""
  metric = next(row for row in study.rows if row["task"] == task)["metric"]
  arrow = "up" if is_higher_better(study.rows, task) else "down"
  headings = [
    Heading(label, "" if key == "std" else cols.ARROWS[arrow])
    for key, label in _PER_EXAMPLE
  ]
  models = [model for model in study.compared() if study.of(model, task)]
  readouts = [m for m in study.readouts_alone() if study.of(m, task)]
  best = {
    key: leaders(study, models, task, key) for key in ("mean", "best")
  } | {"std": set()}
  best["perception"] = leaders(study, models + readouts, task, "perception")

  def cell(model: Model, key: str) -> Cell:
    if model in readouts and key != "perception":
      return Cell(cols.MISSING, reason="readouts alone: nothing forecasts")
    printed = paper.printed_value("per_example", model, task, key)
    return _cell(study, model, task, key, printed, is_best=model in best[key])

  lines = [
    Line(
      model.label,
      model.weights,
      tuple(cell(model, key) for key, _ in _PER_EXAMPLE),
    )
    for model in models + readouts
  ]
  name = cols.METRIC_NAMES.get(metric, metric)
  return Table(
    f"{task}: {name} (Table 6)",
    tuple(headings),
    tuple(lines),
    (SEEDS_NOTE, BOLD_NOTE, scale.note(study, task)),
    "Model",
  )


def distribution_table(study: Study, task: str) -> Table:
  """Returns Table 2 of one task: Fréchet distance, variance beside truth."""
  models = [model for model in study.compared() if study.of(model, task)]
  best = leaders(study, models, task, "fd_1")
  lines = []
  for model in models:
    printed = {
      key: paper.printed_value("distribution", model, task, key)
      for key in ("fd", "var")
    }
    cells = [
      _cell(study, model, task, "fd", printed["fd"]),
      _cell(study, model, task, "fd_1", None, is_best=model in best),
      _cell(study, model, task, "var_time", printed["var"]),
      _cell(study, model, task, "var_gauss", printed["var"]),
      _cell(study, model, task, "spread_skill", None),
    ]
    lines.append(Line(model.label, model.weights, tuple(cells)))
  truth = paper.read_paper()["distribution"]["GT"].get(task, {}).get("var")
  cells = [
    Cell(
      _number(
        mean(study.value(model, task, f"truth_{key}") for model in models)
      ),
      _printed(truth),
    )
    for key in ("var_time", "var_gauss")
  ]
  none = Cell(cols.MISSING, reason="of the truth itself")
  lines.append(Line("truth", "oracle", (none, none, *cells, Cell("1"))))
  return Table(
    f"{task}: distribution (Table 2)",
    (
      Heading("FD", "↓"),
      Heading("FD₁", "↓"),
      Heading("Var time", "→truth"),
      Heading("Var Gauss", "→truth"),
      Heading("Spread-skill", "→1"),
    ),
    tuple(lines),
    (
      SEEDS_NOTE,
      "FD: of all samples, FD₁: of one per clip, which alone has a paired test"
      " and bold numbers",
      BOLD_NOTE,
      FRECHET_NOTE,
      "the paper prints one variance, which its text says is in time and its"
      " caption that of the Gaussian; it stands beside both",
      scale.note(study, task),
    ),
    "Model",
  )


def ablation_table(study: Study, task: str) -> Table | None:
  """Returns Table 3 of one task: diffusion beside regression.

  Returns:
    None if no model was forecast by both.
  """
  lines = []
  for model in study.models(DIFFUSION):
    other = dataclasses.replace(model, forecaster=REGRESSION)
    if not study.of(model, task) or not study.of(other, task):
      continue
    cells = []
    for name in ("mean", "best", "fd_1"):
      key = "fd" if name == "fd_1" else name
      table = "distribution" if key == "fd" else "per_example"
      cells += [
        _cell(
          study, model, task, name, paper.printed_value(table, model, task, key)
        ),
        _cell(
          study,
          other,
          task,
          name,
          paper.printed_value("regression", model, task, key),
        ),
        difference_cell(compare(study, model, other, task, name)),
      ]
    lines.append(Line(model.label, model.weights, tuple(cells)))
  if not lines:
    return None
  headings = [
    Heading(f"{label}: {what}")
    for label in ("Mean", "Best", "FD₁")
    for what in ("diffusion", "regression", "gain")
  ]
  return Table(
    f"{task}: diffusion and regression (Table 3)",
    tuple(headings),
    tuple(lines),
    (
      "gain: of diffusion over regression in per cent, positive is better, with"
      " its 95 % interval (paired bootstrap over clips) and what it decides",
      "the paper's Fréchet distance of diffusion is that of its Table 2; ours"
      " are of one sample per clip, as regression has no more",
      FRECHET_NOTE,
      SEEDS_NOTE,
      scale.note(study, task),
    ),
    "Model",
  )


def correlation_table(found: dict[str, Correlation]) -> Table:
  """Returns Pearson's r of forecasting and perception (Figure 1c)."""
  printed = paper.read_paper().get("pearson", {})
  lines = []
  for task, r in found.items():
    cells = (
      Cell(
        _number(r.value),
        f"paper {printed[task]:.3f}" if task in printed else "",
      ),
      Cell(_ends(r.over_clips)),
      Cell(_ends(r.over_models)),
      Cell(str(r.num_models)),
    )
    lines.append(Line(task, "trained", cells))
  return Table(
    "Forecasting against perception (Figure 1c)",
    (
      Heading("Pearson r"),
      Heading("95 % over clips"),
      Heading("95 % over models"),
      Heading("Models"),
    ),
    tuple(lines),
    (
      "best-of-S forecasting and perception, each as its share of the best"
      " model's (lower is better: the best as a share of it)",
      "over clips: the clips are drawn again, which says how well r of these"
      " models is known; over models: the models are drawn again, which says"
      " how far it may hold for others",
      "paper: computed in the same way from its Table 6",
    ),
    "Task",
  )


def findings_table(findings: Sequence[Finding]) -> Table:
  """Returns what became of the paper's findings, each above its tasks."""
  lines = []
  for finding in findings:
    cells = (_verdict(finding.verdict), Cell(finding.summary), Cell(""))
    lines.append(Line(finding.claim, "finding", cells))
    for statistic in finding.statistics:
      cells = (
        Cell(cols.MISSING)
        if statistic.is_reference
        else _verdict(statistic.verdict),
        Cell(statistic.number or cols.MISSING, reason=statistic.note),
        Cell(statistic.remark),
      )
      lines.append(Line(f"· {statistic.what}", "statistic", cells))
  notes = [f"{finding.claim} {finding.test}" for finding in findings]
  return Table(
    "The paper's findings",
    (Heading("Verdict"), Heading("Statistic"), Heading("Models")),
    tuple(lines),
    tuple(notes),
    "Finding",
  )


def _verdict(verdict: str) -> Cell:
  return Cell(verdict, is_best=verdict == HELD)


def difference_cell(difference: Difference) -> Cell:
  """Returns a gain in per cent, with what it decides."""
  value, low, high = (100.0 * x for x in difference.relative)
  if math.isnan(value):
    return Cell(cols.MISSING, reason="no values per clip in these rows")
  return Cell(
    f"{value:+.1f}",
    f"[{low:+.1f}, {high:+.1f}] {difference.verdict}",
    difference.verdict == "better",
  )


def _cell(
  study: Study,
  model: Model,
  task: str,
  name: str,
  printed: float | None,
  is_best: bool = False,
) -> Cell:
  """Returns ours, with deviation over seeds and the paper's below."""
  value = study.value(model, task, name)
  deviation = study.deviation(model, task, name)
  note = [] if math.isnan(deviation) else [f"±{deviation:.2g}"]
  note += [_printed(printed)] if printed is not None else []
  reason = "not computed for these rows" if math.isnan(value) else ""
  return Cell(_number(value), "; ".join(note), is_best, reason=reason)


def _printed(value: float | None) -> str:
  return "" if value is None else f"paper {value:.4g}"


def _number(value: float) -> str:
  return cols.MISSING if math.isnan(value) else f"{value:.4g}"


def _ends(ends: tuple[float, float]) -> str:
  if any(math.isnan(end) for end in ends):
    return cols.MISSING
  return f"[{ends[0]:.2f}, {ends[1]:.2f}]"
