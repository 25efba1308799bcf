"""The page's part that compares backbones, where there are several."""

import csv
import html
import io
from collections.abc import Sequence

from forecasting.report import columns as cols
from forecasting.report import (
  correlation,
  findings,
  markup,
  significance,
  study_figures,
  study_tables,
)
from forecasting.report.figures import Figure
from forecasting.report.findings import Finding
from forecasting.report.models import Study
from forecasting.report.results import Row
from forecasting.report.tables import Table

_STATISTIC = ("what", "value", "low", "high", "unit", "threshold")
_PAIR = ("task", "score", "first", "second", "difference", "low", "high")
_SHARES = ("share", "share_low", "share_high", "verdict")


class Comparison:
  """Tables and figures over all models of some rows.

  Attributes:
    study: the rows by model.
    findings: of the paper, tested on them.
    tables: findings, correlation, then Tables 6, 2 and 3 of every task.
    figures: Figures 1c and 3.
  """

  def __init__(self, rows: Sequence[Row]) -> None:
    """Computes everything."""
    study = Study(rows)
    pretrained = [m for m in study.compared() if m.weights == "pretrained"]
    found = correlation.correlations(
      study, pretrained, cols.order_tasks(study.rows)
    )
    self.study = study
    self.findings = findings.all_findings(study)
    self.tables: list[Table] = [
      study_tables.findings_table(self.findings),
      *([study_tables.correlation_table(found)] if found else []),
      *study_tables.study_tables(study),
    ]
    drawn = (
      study_figures.correlation_figure(study, study.compared(), found),
      study_figures.per_example_figure(study),
    )
    self.figures: list[Figure] = [f for f in drawn if f is not None]


def findings_csv(found: Sequence[Finding]) -> str:
  """Returns every statistic of every finding, unrounded, one per line."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(["finding", "verdict", *_STATISTIC, "decided"])
  for finding in found:
    for statistic in finding.statistics:
      numbers = [getattr(statistic, field) for field in _STATISTIC]
      writer.writerow(
        [finding.claim, finding.verdict, *numbers, statistic.decided]
      )
  return text.getvalue()


def pairs_csv(study: Study) -> str:
  """Returns every two models' difference on every task, one per line.

  Positive is better whatever the metric; shares are of the second's value.
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow([*_PAIR, *_SHARES])
  tasks = cols.order_tasks(study.rows)
  for task, name, a, b, found in significance.pairs(
    study, study.compared(), tasks
  ):
    numbers = (found.value, found.low, found.high, *found.relative)
    writer.writerow([task, name, a.label, b.label, *numbers, found.verdict])
  return text.getvalue()


def is_study(rows: Sequence[Row]) -> bool:
  """Returns whether rows are of several models that were forecast alike."""
  return len(Study(rows).compared()) > 1


def to_html(comparison: Comparison) -> str:
  """Returns the section's text."""
  study = comparison.study
  notes = []
  for task in cols.order_tasks(study.rows):
    if len(study.clip_list(task)) > 1:
      notes.append(
        f"{task}: the models were scored on different clips; nothing is paired"
      )
  if mixed := sorted({model.label for model in study.mixed()}):
    notes.append(
      f"several runs of {', '.join(mixed)} have the same seed; this section"
      " averages them as if they were seeds"
    )
  if any("clips" not in row for row in study.rows):
    notes.append(
      "some rows have no values per clip: score them again with"
      " forecasting.eval for paired comparisons"
    )
  first, *rest = comparison.tables
  parts = [
    '<p class="warning" role="note"><b>On scale.</b> These are small models,'
    " data and trainings. The paper's numbers stand beside ours so that orders"
    " and signs can be compared; the values cannot.</p>",
    *(f'<p class="warning">{html.escape(note)}</p>' for note in notes),
    markup.to_html(first),
    *(markup.figure_to_html(figure) for figure in comparison.figures),
    *map(markup.to_html, rest),
  ]
  return "".join(parts)
