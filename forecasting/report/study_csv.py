"""A study's numbers as CSV, unrounded: tables, correlation, findings, pairs."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forecasting.report import columns as cols
from forecasting.report import paper, significance
from forecasting.report.correlation import Correlation
from forecasting.report.findings import Finding
from forecasting.report.models import DIFFUSION, REGRESSION, Model, Study

# Name in our rows to table and name in the paper's.
_SCORES = {
  "6": {
    name: ("per_example", name)
    for name in ("mean", "std", "best", "perception")
  },
  "2": {
    "fd": ("distribution", "fd"),
    "fd_1": ("", ""),
    "var_time": ("distribution", "var"),
    "var_gauss": ("distribution", "var"),
    "truth_var_time": ("", ""),
    "truth_var_gauss": ("", ""),
    "spread_skill": ("", ""),
  },
}
_ABLATION = ("mean", "best", "fd_1")
_LINE = ("table", "task", "model", "weights", "forecaster", "score", "ours")
_PRINTED = ("deviation_over_seeds", "seeds", "paper", "paper_model")
_GAIN = ("gain", "gain_low", "gain_high", "gain_share", "verdict")
_STATISTIC = ("what", "value", "low", "high", "unit", "threshold", "decided")
_PAIR = ("task", "score", "first", "second", "difference", "low", "high")
_ENDS = ("low", "high")
_SHARES = ("share", "share_low", "share_high", "verdict")


def _text(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(heads)
  writer.writerows(lines)
  return text.getvalue()


def tables_csv(study: Study) -> str:
  """Returns Tables 2, 3 and 6, ours beside the paper's, one number a line.

  A gain is of diffusion over regression, positive if better; Table 2 has the
  truth's variance in a line of its own.
  """
  lines: list[list[Any]] = []
  for task in cols.order_tasks(study.rows):
    for model in study.compared():
      for table, scores in _SCORES.items():
        for name, (printed, key) in scores.items():
          if study.of(model, task):
            line = _line(study, table, task, model, name, printed, key)
            lines.append([*line, *([""] * len(_GAIN))])
    for model in study.readouts_alone():
      if study.of(model, task):
        line = _line(study, "6", task, model, "perception", "", "")
        lines.append([*line, *([""] * len(_GAIN))])
    truth = paper.read_paper()["distribution"]["GT"].get(task, {}).get("var")
    blank = ["", "", "var", "", "", "", truth, "GT", *([""] * len(_GAIN))]
    lines.append(["2", task, "truth", *blank])
    lines += _ablation(study, task)
  return _text([*_LINE, *_PRINTED, *_GAIN], lines)


def _line(
  study: Study,
  table: str,
  task: str,
  model: Model,
  name: str,
  printed: str,
  key: str,
) -> list[Any]:
  value = None
  if printed:
    value = paper.printed_value(printed, model, task, key)
  return [
    *(table, task, model.backbone, model.weights, model.forecaster, name),
    study.value(model, task, name),
    study.deviation(model, task, name),
    len(study.of(model, task)),
    value,
    None if value is None else paper.paper_model(model),
  ]


def _ablation(study: Study, task: str) -> list[list[Any]]:
  """Returns Table 3: diffusion with its gain, then regression."""
  lines = []
  for model in study.models(DIFFUSION):
    other = dataclasses.replace(model, forecaster=REGRESSION)
    if not study.of(model, task) or not study.of(other, task):
      continue
    for name in _ABLATION:
      key = "fd" if name == "fd_1" else name
      found = significance.compare(study, model, other, task, name)
      table = "distribution" if key == "fd" else "per_example"
      line = _line(study, "3", task, model, name, table, key)
      gain = (found.value, found.low, found.high, found.relative[0])
      lines.append([*line, *gain, found.verdict])
      line = _line(study, "3", task, other, name, "regression", key)
      lines.append([*line, *([""] * len(_GAIN))])
  return lines


def correlation_csv(found: Mapping[str, Correlation]) -> str:
  """Returns Pearson's r of every task with both intervals and the paper's."""
  printed = paper.read_paper()["pearson"]
  lines = [
    [
      *(task, r.value, *r.over_clips, *r.over_models, r.num_models),
      *(printed.get(task), "; ".join(model.label for model in r.models)),
    ]
    for task, r in found.items()
  ]
  ends = [f"over_{what}_{end}" for what in ("clips", "models") for end in _ENDS]
  heads = ["task", "pearson_r", *ends, "num_models", "paper", "models"]
  return _text(heads, lines)


def findings_csv(found: Sequence[Finding]) -> str:
  """Returns every statistic of every finding, one per line.

  A finding without any has a line of its own.
  """
  lines = []
  for finding in found:
    head = [finding.claim, finding.verdict]
    for one in finding.statistics:
      models, against = (
        "; ".join(model.label for model in side)
        for side in (one.models, one.against)
      )
      numbers = [getattr(one, field) for field in _STATISTIC]
      verdict = "" if one.is_reference else one.verdict
      lines.append(
        [*head, verdict, *numbers, models, against, one.note, finding.test]
      )
    if not finding.statistics:
      blank = [""] * (len(_STATISTIC) + 2)
      lines.append([*head, "", *blank, finding.summary, finding.test])
  heads = ["finding", "verdict", "verdict_here", *_STATISTIC]
  return _text([*heads, "models", "against", "note", "test"], lines)


def pairs_csv(study: Study) -> str:
  """Returns every two models' difference on every task, one per line.

  Positive is better whatever the metric; shares are of the second's value.
  """
  tasks = cols.order_tasks(study.rows)
  lines = []
  for task, name, a, b, found in significance.pairs(
    study, study.compared(), tasks
  ):
    numbers = (found.value, found.low, found.high, *found.relative)
    lines.append([task, name, a.label, b.label, *numbers, found.verdict])
  return _text([*_PAIR, *_SHARES], lines)
