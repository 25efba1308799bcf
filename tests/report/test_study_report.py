"""Comparisons over backbones: correlation, significance, findings, tables."""

import dataclasses
import math

import numpy as np
import pytest
from study_rows import make_rows

from forecasting.report import (
  correlation,
  findings,
  paper,
  significance,
  study_page,
)
from forecasting.report.models import Model, Study

TASKS = ("pixels", "depth")


@pytest.fixture(scope="module")
def study():
  return Study(make_rows())


def flow(backbone, weights="pretrained"):
  return Model(backbone, weights, "flow")


def test_models_are_grouped_and_averaged_over_seeds(study):
  models = study.compared()
  assert [m.weights for m in models] == ["pretrained"] * 7 + ["random"]
  model = flow("vjepa_tiny")
  rows = [
    row
    for row in study.rows
    if row["backbone"] == "vjepa_tiny"
    and row["task"] == "pixels"
    and row["forecaster"] == "flow"
  ]
  values = [row["scores"]["best"]["value"] for row in rows]
  assert len(values) == 2
  assert study.value(model, "pixels", "best") == pytest.approx(np.mean(values))
  deviation = study.deviation(model, "pixels", "best")
  assert deviation == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
  clips = np.mean([row["clips"]["best"] for row in rows], axis=0)
  np.testing.assert_allclose(study.clips(model, "pixels", "best"), clips)
  assert study.clips(model, "boxes", "best") is None


@pytest.mark.filterwarnings("error")
def test_a_model_with_void_scores_is_compared_with_none():
  def void(row):
    if row["backbone"] == "vjepa_tiny" and row["forecaster"] == "flow":
      row["clips"] |= {name: [None] * 60 for name in ("mean", "best")}
      row["fd_1_replicates"] = []
      for name in ("mean", "best", "fd_1"):
        row["scores"][name] = {"value": None, "low": None, "high": None}
    return row

  study = Study(make_rows(change=void))
  broken, other = flow("vjepa_tiny"), flow("walt_tiny")
  for name in ("mean", "best", "fd_1"):
    found = significance.compare(study, broken, other, "pixels", name)
    assert found is significance.UNKNOWN, name
    assert broken not in significance.leaders(
      study, study.compared(), "pixels", name
    )
  same = Model("vjepa_tiny", "pretrained", "regression")
  void_pair = significance.compare(study, broken, same, "pixels", "fd_1")
  assert void_pair is significance.UNKNOWN


def test_normalization():
  values = np.array([2.0, 4.0, 1.0])
  np.testing.assert_allclose(
    correlation.normalize(values, True), [0.5, 1, 0.25]
  )
  np.testing.assert_allclose(
    correlation.normalize(values, False), [0.5, 0.25, 1]
  )


def test_pearson_of_the_paper(study):
  """The published table gives the values that were computed apart from us."""
  printed = paper.read_paper()
  for task, expected in printed["pearson"].items():
    if task == "pooled":  # below
      continue
    cells = [model[task] for model in printed["per_example"].values()]
    sides = [
      correlation.normalize(
        np.array([cell[name] for cell in cells]), task != "depth"
      )
      for name in ("perception", "best")
    ]
    assert correlation.pearson(*sides) == pytest.approx(expected, abs=6e-4)


def test_pooled_pearson_of_the_paper():
  """Table 6 as rows: our pooled r is the 0.869 of paper_results.json."""
  printed = paper.read_paper()
  rows = [
    {
      "name": name,
      "backbone": name,
      "task": task,
      "forecaster": "flow",
      "seed": 0,
      "higher_is_better": task != "depth",
      "scores": {key: {"value": value} for key, value in scores.items()},
    }
    for name, tasks in printed["per_example"].items()
    for task, scores in tasks.items()
  ]
  all_ten = Study(rows)
  found = correlation.correlations(
    all_ten,
    all_ten.compared(),
    ("pixels", "depth", "points", "boxes"),
    num_replicates=10,
  )
  assert found["pooled"].value == pytest.approx(0.869, abs=5e-4)
  assert found["pooled"].num_models == 10
  for task, expected in printed["pearson"].items():
    assert found[task].value == pytest.approx(expected, abs=6e-4)


def test_correlation_and_its_intervals(study):
  models = [m for m in study.compared() if m.weights == "pretrained"]
  found = correlation.correlations(study, models, TASKS, num_replicates=200)
  assert set(found) == {"pixels", "depth", "pooled"}
  for task in TASKS:
    sides = [
      np.array([study.value(m, task, name) for m in models])
      for name in ("perception", "best")
    ]
    if task == "depth":
      sides = [side.min() / side for side in sides]
    expected = np.corrcoef(*sides)[0, 1]
    r = found[task]
    assert r.value == pytest.approx(expected) and r.num_models == 7
    assert r.over_clips[0] <= r.value <= r.over_clips[1]
    assert r.over_models[0] > 0.5
    # Clips are many and alike, models few and different.
    widths = [ends[1] - ends[0] for ends in (r.over_clips, r.over_models)]
    assert widths[0] < widths[1]


def test_two_models_have_no_correlation(study):
  two = [flow("4ds_tiny"), flow("dinov2_tiny")]
  assert correlation.correlations(study, two, TASKS) == {}


def test_paired_differences(study):
  """Clips differ more than models do: only pairs can tell them apart."""
  a, b = flow("4ds_tiny"), flow("walt_tiny")
  for task, sign in (("pixels", 1), ("depth", -1)):
    found = significance.compare(study, a, b, task, "best")
    sides = [study.clips(model, task, "best") for model in (a, b)]
    assert found.value == pytest.approx(sign * (sides[0] - sides[1]).mean())
    assert found.low < found.value < found.high
    assert found.verdict == "better"
    spread = np.std(sides[0]) / math.sqrt(len(sides[0]))
    assert found.high - found.low < 2 * spread
    back = significance.compare(study, b, a, task, "best")
    assert back.verdict == "worse"
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
  same = significance.compare(study, a, a, "pixels", "best")
  assert same.verdict == "undecided" and same.value == 0


def test_frechet_distances_are_paired_by_their_replicates(study):
  a = flow("4ds_tiny")
  b = dataclasses.replace(a, forecaster="regression")
  found = significance.compare(study, a, b, "pixels", "fd_1")
  # Replicates move by 0.05 together; what is left of them is 0.001.
  assert found.value == pytest.approx(0.5)
  assert found.high - found.low < 0.01
  assert found.verdict == "better"


def test_rows_of_other_clips_are_not_paired():
  def change(row):
    if row["backbone"] == "dinov2_tiny":
      row["eval_list_hash"] = "0ther"
    return row

  mixed = Study(make_rows(change=change))
  a, b = flow("4ds_tiny"), dataclasses.replace(flow("4ds_tiny"))
  b = dataclasses.replace(b, forecaster="regression")
  found = significance.compare(mixed, a, b, "pixels", "fd_1")
  assert math.isnan(found.value)
  text = study_page.to_html(study_page.Comparison(mixed.rows))
  assert "different clips" in text


@pytest.mark.parametrize(
  ("decided", "verdict"),
  [
    ((1, 1, 0, 0), "held"),
    ((1, 0, 0, 0), "undecided"),
    ((1, 1, 1, -1), "undecided"),
    ((1, -1, -1, 0), "not held"),
    ((-1, -1, 0, 0), "not held"),
    ((0, 0), "undecided"),
    ((), "undecided"),
  ],
)
def test_verdicts(decided, verdict):
  statistics = tuple(
    findings.Statistic("x", float(d), d - 0.5, d + 0.5) for d in decided
  )
  assert findings.Finding("", "", statistics).verdict == verdict
  # What stands beside a finding, or could not be computed, does not count.
  beside = (
    findings.Statistic("x", -9.0, -10.0, -8.0, is_reference=True),
    findings.missing("y", "why"),
  )
  finding = findings.Finding("", "", (*statistics, *beside))
  assert finding.verdict == verdict
