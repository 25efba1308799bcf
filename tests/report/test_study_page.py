"""Tables and figures over backbones, and the files that hold them."""

import csv
import dataclasses
import io
import math

import numpy as np
import pytest
from study_rows import make_rows

from forecasting.report import (
  correlation,
  markup,
  page,
  paper,
  results,
  significance,
  study_csv,
  study_page,
  study_tables,
)
from forecasting.report.models import Model, Study

TASKS = ("pixels", "depth")


@pytest.fixture(scope="module")
def study():
  return Study(make_rows())


def flow(backbone):
  return Model(backbone, "pretrained", "flow")


def test_tables_have_the_papers_numbers_beside_ours(study):
  table = study_tables.per_example_table(study, "pixels")
  lines = {line.label: line for line in table.lines}
  best = [heading.label for heading in table.headings].index("Best-of-S")
  assert "paper 19.66" in lines["4ds_tiny"].cells[best].note
  assert "paper" not in lines["4ds_tiny (random weights)"].cells[best].note
  assert lines["4ds_tiny"].cells[best].is_best
  assert not lines["dinov2_tiny"].cells[best].is_best
  value = study.value(flow("4ds_tiny"), "pixels", "best")
  assert lines["4ds_tiny"].cells[best].text == f"{value:.4g}"

  table = study_tables.distribution_table(study, "pixels")
  lines = {line.label: line for line in table.lines}
  assert "paper 32.26" in lines["4ds_tiny"].cells[0].note
  assert lines["truth"].cells[2].text == "1"
  assert lines["truth"].cells[2].note == "paper 0.012"

  table = study_tables.ablation_table(study, "depth")
  line = next(line for line in table.lines if line.label == "walt_tiny")
  gains = [cell for cell in line.cells if "better" in cell.note]
  assert len(gains) == 2  # best and FD
  # Both sides have the paper's: its Tables 6 and 2, and its Table 3.
  printed = paper.read_paper()
  regression = printed["regression"]["WALT 500M"]["depth"]
  for column, value in (
    (0, printed["per_example"]["WALT 500M"]["depth"]["mean"]),
    (1, regression["mean"]),
    (3, printed["per_example"]["WALT 500M"]["depth"]["best"]),
    (4, regression["best"]),
    (6, printed["distribution"]["WALT 500M"]["depth"]["fd"]),
    (7, regression["fd"]),
  ):
    assert line.cells[column].note.split("; ")[-1] == f"paper {value:.4g}"
    assert line.cells[column].note.startswith("±")


def test_bold_numbers_are_those_that_clips_do_not_tell_from_the_best():
  """A twin of the best differs from it by noise that no interval decides."""
  rows = make_rows(tasks=("depth",))
  rng = np.random.default_rng(7)

  def twin(row):
    scores, clips = dict(row["scores"]), dict(row["clips"])
    noise = rng.normal(0, 0.01, len(clips["best"]))
    noise += 0.0005 - noise.mean()
    clips["best"] = (np.array(clips["best"]) + noise).tolist()
    scores["best"] = {"value": float(np.mean(clips["best"]))}
    return row | {"backbone": "twin", "clips": clips, "scores": scores}

  best = [row for row in rows if row["backbone"] == "4ds_tiny"]
  best = [row for row in best if not row["weights_digest"].startswith("random")]
  both = Study([*rows, *map(twin, best)])
  table = study_tables.per_example_table(both, "depth")
  column = [heading.label for heading in table.headings].index("Best-of-S")
  bold = {line.label for line in table.lines if line.cells[column].is_best}
  assert bold == {"4ds_tiny", "twin"}
  # Rows that cannot be compared clip by clip have one best number.
  for row in both.rows:
    row.pop("clips")
  assert len(significance.leaders(both, both.compared(), "depth", "best")) == 1


def test_every_two_models_are_compared(study):
  lines = list(csv.DictReader(io.StringIO(study_csv.pairs_csv(study))))
  assert len(lines) == 2 * 4 * math.comb(8, 2)
  (line,) = [
    line
    for line in lines
    if (line["task"], line["score"]) == ("depth", "best")
    and {line["first"], line["second"]} == {"4ds_tiny", "dinov2_tiny"}
  ]
  values = [
    study.value(flow(line[key]), "depth", "best") for key in ("first", "second")
  ]
  # Depth errors are better where they are lower.
  gain = values[1] - values[0]
  assert float(line["difference"]) == pytest.approx(gain)
  assert float(line["share"]) == pytest.approx(gain / values[1])
  assert line["verdict"] == ("better" if gain > 0 else "worse")


def test_a_value_of_zero_breaks_nothing(study):
  """Untrained point tracks score 0: nothing is a share of it."""

  def change(row):
    if row["forecaster"] == "regression":
      row["clips"]["best"] = [0.0] * len(row["clips"]["best"])
      row["scores"]["best"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    return row

  zero = Study(make_rows(tasks=("points",), change=change))
  a = flow("4ds_tiny")
  b = dataclasses.replace(a, forecaster="regression")
  found = significance.compare(zero, a, b, "points", "best")
  assert found.verdict == "better"
  assert all(math.isnan(x) for x in found.relative)
  comparison = study_page.Comparison(zero.rows)
  notes = " ".join(comparison.tables[0].footnotes)
  assert "nan" not in notes


def test_a_task_that_only_regression_has_is_no_error(study):
  rows = [
    row
    for row in study.rows
    if row["task"] == "pixels" or row["forecaster"] == "regression"
  ]
  comparison = study_page.Comparison(rows)
  titles = [table.title for table in comparison.tables]
  assert "depth: distribution (Table 2)" in titles


def test_figure_has_every_r_with_its_intervals(study):
  comparison = study_page.Comparison(study.rows)
  models = [m for m in study.compared() if m.weights == "pretrained"]
  found = correlation.correlations(study, models, TASKS)
  for name in (*TASKS, "pooled"):
    r = found[name]
    low, high = r.over_clips
    line = f"{name} r = {r.value:.2f}, over clips [{low:.2f}, {high:.2f}]"
    assert line in comparison.figures["figure_1c"].alt
    assert line in comparison.figures["figure_1c"].caption
  drawing = comparison.figures["figure_1c"].svg
  # One panel a task and one of both, with a marker of its own for each.
  assert drawing.count('id="axes_') == 3
  assert comparison.files()["figure_1c.svg"] == drawing


def test_every_writer_takes_the_tables(study):
  comparison = study_page.Comparison(study.rows)
  assert study_page.is_study(study.rows)
  titles = [table.title for table in comparison.tables]
  for number in ("2", "3", "6"):
    assert sum(f"(Table {number})" in title for title in titles) == 2
  for table in comparison.tables:
    for write in (markup.to_html, markup.to_markdown, markup.to_latex):
      assert table.lines[0].label.split(" ")[0].split("_")[0] in write(table)
  assert all(markup.to_latex(table).isascii() for table in comparison.tables)
  text = study_page.to_html(comparison)
  assert text.count("<figure>") == 2
  assert "held" in text and "On scale" in text


def test_runs_that_share_a_seed_are_pointed_out(study):
  assert study.mixed() == []
  other = [
    row | {"name": "longer"}
    for row in study.rows
    if row["backbone"] == "vjepa_tiny"
  ]
  mixed = Study([*study.rows, *other])
  assert {model.backbone for model in mixed.mixed()} == {"vjepa_tiny"}


def test_baselines_of_two_runs_are_no_mixed_seeds(study):
  """W.A.L.T. and its own forecast run apart, with baselines of one name."""
  walt = [
    row
    for row in study.rows
    if row["backbone"] == "walt_tiny" and row["forecaster"] == "flow"
  ]
  native = [row | {"name": "n", "forecaster": "native"} for row in walt]
  baselines = [
    row | {"name": name, "forecaster": "oracle_future", "kind": "oracle"}
    for row in walt
    for name in ("walt", "n_walt")
  ]
  both = Study([*study.rows, *native, *baselines])
  assert both.mixed() == []
  text = study_page.to_html(study_page.Comparison(both.rows))
  assert "have the same seed" not in text


def test_one_model_is_no_study(study):
  rows = [row for row in study.rows if row["backbone"] == "vjepa_tiny"]
  assert not study_page.is_study(rows)


def test_report_of_many_runs_is_one_page(tmp_path):
  """Seeds and models in folders of their own, as a study leaves them."""
  rows = make_rows(seeds=(0, 1))
  folders = {}
  for row in rows:
    name = f"{row['name']}-{row['seed']}"
    folders.setdefault(name, []).append(row)
  for name, own in folders.items():
    (tmp_path / name).mkdir()
    results.write_rows(tmp_path / name / "results.jsonl", own)
  note = "no weights for walt_tiny: make them by\n  python -m <x>"
  path = page.write_comparison(
    [tmp_path / name for name in folders], tmp_path / "report", [note]
  )
  text = path.read_text()
  assert "walt_tiny: make them by<br>  python -m &lt;x&gt;" in text
  markdown = (path.parent / "results.md").read_text()
  assert markdown.startswith(f"> {note}".replace("\n  ", "\n>     "))
  # Once for all models, though none of them is a model of the paper.
  assert text.count("222.92 in Table 2 and 228.92 in Table 3") == 1
  assert text.count("The paper has no row for") == 1
  assert "Across backbones" in text and "8 models in 16 runs" in text
  assert text.index("The paper&#x27;s findings") < text.index("<h2>Results")
  # The details are of one seed of each model.
  details = text[text.index("<h2>Results") :]
  assert "seed 0" in details and "seed 1" not in details
  lines = (path.parent / "results.csv").read_text().splitlines()
  assert len(lines) == 1 + len(rows)
  for name in ("findings", "comparisons", "correlation", "study_tables"):
    assert (path.parent / f"{name}.csv").exists()
  latex = (path.parent / "results.tex").read_text()
  assert "(Table 6)" in latex and latex.isascii()
