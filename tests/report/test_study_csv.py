"""Everything that the study's tables show is in files, unrounded."""

import csv
import io

import pytest
from study_rows import make_rows

from forecasting.report import paper, study_csv
from forecasting.report.models import Model, Study
from forecasting.report.study_page import Comparison


def read(text):
  return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def comparison():
  return Comparison(make_rows())


def test_tables_have_the_papers_numbers_beside_ours(comparison):
  study = comparison.study
  lines = read(study_csv.tables_csv(study))
  model = Model("walt_tiny", "pretrained", "flow")

  def find(table, score, forecaster="flow"):
    (line,) = [
      line
      for line in lines
      if (line["table"], line["task"], line["score"]) == (table, "depth", score)
      and (line["model"], line["forecaster"]) == ("walt_tiny", forecaster)
    ]
    return line

  printed = paper.read_paper()
  for table, score, source, key in (
    ("6", "best", "per_example", "best"),
    ("6", "perception", "per_example", "perception"),
    ("2", "fd", "distribution", "fd"),
    ("2", "var_time", "distribution", "var"),
    ("3", "fd_1", "distribution", "fd"),
  ):
    line = find(table, score)
    assert float(line["ours"]) == study.value(model, "depth", score)
    expected = printed[source]["WALT 500M"]["depth"][key]
    assert float(line["paper"]) == expected
    assert line["paper_model"] == "WALT 500M" and line["seeds"] == "2"
  line = find("3", "fd_1", "regression")
  assert float(line["paper"]) == 226.45
  gain = find("3", "best")
  assert (
    float(gain["gain_low"]) < float(gain["gain"]) < float(gain["gain_high"])
  )
  assert gain["verdict"] == "better"
  (truth,) = [
    line
    for line in lines
    if line["model"] == "truth" and line["task"] == "depth"
  ]
  assert float(truth["paper"]) == 0.193
  # What learned nothing has no number of the paper.
  assert not any(line["paper"] for line in lines if line["weights"] == "random")


def test_correlation_has_both_intervals(comparison):
  lines = {
    line["task"]: line for line in read(comparison.files()["correlation.csv"])
  }
  assert set(lines) == {"pixels", "depth", "pooled"}
  for task, r in comparison.correlations.items():
    line = lines[task]
    assert float(line["pearson_r"]) == r.value
    for name, ends in (("clips", r.over_clips), ("models", r.over_models)):
      found = tuple(float(line[f"over_{name}_{e}"]) for e in ("low", "high"))
      assert found == ends
    assert float(line["paper"]) == paper.read_paper()["pearson"][task]


def test_all_files_are_there(comparison):
  files = comparison.files()
  assert set(files) == {
    *("findings.csv", "correlation.csv", "study_tables.csv"),
    *("comparisons.csv", "figure_1c.svg", "figure_3.svg"),
  }
  study = Study(comparison.study.rows[:4])
  assert read(study_csv.tables_csv(study))
