"""The page's part that compares backbones, where there are several."""

import html
from collections.abc import Sequence

from forecasting.report import columns as cols
from forecasting.report import (
  correlation,
  hypotheses,
  markup,
  provenance,
  scale,
  study_csv,
  study_figures,
  study_tables,
)
from forecasting.report.figures import Figure
from forecasting.report.findings import Finding
from forecasting.report.models import Study
from forecasting.report.results import Row
from forecasting.report.tables import Table


class Comparison:
  """Tables and figures over all models of some rows.

  Attributes:
    study: the rows by model.
    findings: of the paper, tested on them.
    correlations: Pearson's r of every task, and pooled.
    tables: findings, correlation, Tables 6, 2 and 3 of every task, and how the
      backbones were pretrained.
    figures: `figure_1c` and `figure_3`, where there is enough to draw.
  """

  def __init__(self, rows: Sequence[Row]) -> None:
    """Computes everything."""
    study = Study(rows)
    pretrained = [m for m in study.compared() if m.weights == "pretrained"]
    found = correlation.correlations(
      study, pretrained, cols.order_tasks(study.rows)
    )
    self.study = study
    self.findings: list[Finding] = hypotheses.all_findings(study)
    self.correlations = found
    self.tables: list[Table] = [
      study_tables.findings_table(self.findings),
      *([study_tables.correlation_table(found)] if found else []),
      *study_tables.study_tables(study),
      provenance.training_table(study),
    ]
    drawn = {
      "figure_1c": study_figures.correlation_figure(
        study, study.compared(), found
      ),
      "figure_3": study_figures.per_example_figure(study),
    }
    self.figures: dict[str, Figure] = {
      name: figure for name, figure in drawn.items() if figure is not None
    }

  def files(self) -> dict[str, str]:
    """Returns all numbers, unrounded, and figures: name of a file to text."""
    return {
      "findings.csv": study_csv.findings_csv(self.findings),
      "correlation.csv": study_csv.correlation_csv(self.correlations),
      "study_tables.csv": study_csv.tables_csv(self.study),
      "comparisons.csv": study_csv.pairs_csv(self.study),
      **{f"{name}.svg": figure.svg for name, figure in self.figures.items()},
    }


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
    '<p class="warning" role="note"><b>On scale.</b>'
    f" {html.escape(scale.statement(study))}</p>",
    *(f'<p class="warning">{html.escape(note)}</p>' for note in notes),
    markup.to_html(first),
    *(markup.figure_to_html(figure) for figure in comparison.figures.values()),
    *map(markup.to_html, rest),
  ]
  return "".join(parts)
