"""Missing variance and ensembles in the report."""

import json

import pytest

from forecasting.report import missing_variance, page

FOUND = {
  "boxes": {
    "gaps": {
      "var_time": {
        "readout": 0.5,
        "forecaster": 0.75,
        "sampler": 0.5,
        "all": 0.1875,
      },
      "spread": {"sampler": float("nan")},
    },
    "calls": [255, 16],
    "truth": {"var_time": 8.0},
    "rows": {
      "oracle_future": {"var_time": 4.0},
      "reference": {"energy_score": 1.0},
      "default": {"energy_score": 1.25},
    },
  }
}


def test_a_diagnosis_is_a_table_of_the_report(make_workdir):
  workdir, _ = make_workdir(tasks=("boxes",), panels=0)
  assert (
    "Where variance is missing" not in page.write_report(workdir).read_text()
  )
  path = workdir / missing_variance.FILE_NAME
  path.write_text(json.dumps(FOUND))
  table = missing_variance.table(missing_variance.read(workdir))
  texts = {x.label: [cell.text for cell in x.cells] for x in table.lines}
  assert texts == {
    "boxes, var_time": ["0.500", "0.750", "0.500", "0.188"],
    "boxes, spread": ["–"] * 4,
  }
  assert "boxes: energy score 1.25 with 16 calls, 1 with 255" in table.footnotes
  text = page.write_report(workdir).read_text()
  assert "<caption>Where variance is missing</caption>" in text
  assert "### Where variance is missing" in (workdir / "results.md").read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"boxes": {"gaps": {}}}'])
def test_a_diagnosis_that_cannot_be_understood_is_named(make_workdir, text):
  workdir, _ = make_workdir(tasks=("boxes",), panels=0)
  (workdir / missing_variance.FILE_NAME).write_text(text)
  with pytest.raises(ValueError, match=r"calibration\.json .* make it again"):
    page.write_report(workdir)


def test_ensembles_show_what_their_members_agree_on(make_workdir):
  def change(row):
    if row["forecaster"] == "flow":
      row["members"] = 4
      for name, value in (("spread", 3.9), ("between", 1.0), ("within", 3.0)):
        key = name if name == "spread" else f"spread_{name}"
        row["scores"][key] = {"value": value, "low": 0.5, "high": 5.0}
    return row

  workdir, rows = make_workdir(tasks=("boxes",), panels=0, change=change)
  (line,) = missing_variance.ensemble_table(rows).lines
  assert line.label == "boxes, flow [S=10]"
  assert [cell.text for cell in line.cells] == ["4", "3.9", "1", "3", "0.250"]
  assert (
    "<caption>Ensembles</caption>" in page.write_report(workdir).read_text()
  )
  others = [row for row in rows if row["forecaster"] != "flow"]
  assert missing_variance.ensemble_table(others) is None
