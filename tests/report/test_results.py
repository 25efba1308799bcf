"""Result rows on disk."""

import math

import pytest

from forecasting.report import results


def row(**changes):
  fields = {
    "name": "run",
    "backbone": "tiny",
    "task": "boxes",
    "forecaster": "flow",
    "seed": 0,
    "metric": "iou",
    "higher_is_better": True,
    "num_examples": 3,
    "num_samples": 2,
    "scores": {"mean": {"value": 0.5, "low": 0.4, "high": 0.6}},
  }
  return fields | changes


def test_rows_survive_and_undefined_numbers_become_null(tmp_path):
  path = tmp_path / "results.jsonl"
  scores = {"mean": {"value": math.nan, "low": math.inf, "high": 1.0}}
  results.write_rows(path, [row(), row(task="points", scores=scores)])
  first, second = results.read_rows(path)
  assert first == row()
  assert second["scores"]["mean"] == {"value": None, "low": None, "high": 1.0}
  assert math.isnan(results.score(second, "mean"))
  assert math.isnan(results.score(second, "fd"))


def test_writing_again_replaces_rows_of_the_same_identity(tmp_path):
  path = tmp_path / "results.jsonl"
  results.write_rows(path, [row(), row(seed=1)])
  results.write_rows(path, [row(num_examples=9)])
  assert [r["num_examples"] for r in results.read_rows(path)] == [9, 3]
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("{oops\n", ":1 is no result row"),
    ('{"name": "x"}\n', ":1 lacks backbone"),
  ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, text, words):
  path = tmp_path / "results.jsonl"
  path.write_text(text)
  with pytest.raises(ValueError, match=words):
    results.read_rows(path)


def test_a_missing_file_says_what_to_run(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"forecasting\.main"):
    results.read_rows(tmp_path / "results.jsonl")
