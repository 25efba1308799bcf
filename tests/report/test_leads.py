"""Scores of every frame, and of longer clips, in every form of the report."""

import csv
import io

import pytest

from forecasting.report import leads, page, results, tables

FIELDS = ("metric", "energy_score", "crps", "rank_deviation", "spread_skill")


def numbers(row, field, length):
  """Numbers that say whose they are."""
  start = 10 * FIELDS.index(field) + len(row["forecaster"])
  return [start + 0.01 * i for i in range(length)]


def with_leads(row):
  """Adds numbers of every frame, and longer clips but for climatology."""
  row |= {f"{f}_per_lead": numbers(row, f, 12) for f in FIELDS}
  row["metric_per_lead"][3] = None
  if row["forecaster"] != "climatology":
    row["horizon"] = {
      "frames": "4..27",
      "num_examples": 64,
      "num_excluded": 2,
      "num_samples": row["num_samples"],
      "num_rows": 62,
      "scores": {"mean": {"value": 0.125, "low": 0.1, "high": 0.2}},
      **{f"{f}_per_lead": numbers(row, f, 24) for f in FIELDS},
    }
  return row


def rows_of(make_workdir, *tasks):
  return make_workdir(tasks=tasks, panels=0, change=with_leads)


def test_tables_have_a_column_per_frame(make_workdir):
  _, rows = rows_of(make_workdir, "boxes")
  found = {table.title: table for table in leads.all_tables(rows)}
  assert list(found) == [
    "boxes, by frame",
    "boxes, longer clips",
    "boxes, longer clips, by frame",
  ]
  usual, longer = (
    found["boxes, by frame"],
    found["boxes, longer clips, by frame"],
  )
  assert [h.label for h in usual.headings] == [str(i) for i in range(4, 16)]
  assert [h.label for h in longer.headings] == [str(i) for i in range(4, 28)]
  assert len(usual.lines) == 5 and len(longer.lines) == 4
  line = next(x for x in longer.lines if x.label.startswith("flow"))
  assert [cell.text for cell in line.cells] == [
    f"{4 + 0.01 * i:.1f}" for i in range(24)
  ]
  assert usual.lines[0].cells[3].text == "–"
  scores = found["boxes, longer clips"]
  assert not any("climatology" in x.label for x in scores.lines)
  assert scores.lines[0].cells[0].text.startswith("0.125")
  assert any("nothing to score: flow 2" in note for note in scores.footnotes)


def test_every_number_is_in_the_csv(make_workdir):
  _, rows = rows_of(make_workdir, "depth", "points")
  lines = list(csv.DictReader(io.StringIO(leads.to_csv(rows))))
  found = {
    tuple(line[k] for k in ("task", "forecaster", "clips", "score", "frame")): (
      line["value"]
    )
    for line in lines
  }
  assert len(found) == len(lines) == 2 * 5 * (5 * 12 + 4 * 24)
  for row in rows:
    metric, name = row["metric"], row["forecaster"]
    key = (row["task"], name, "usual")
    assert found[(*key, metric, "7")] == ""
    value = row["crps_per_lead"][11]
    assert float(found[(*key, "crps", "15")]) == value
    if name != "climatology":
      value = row["horizon"]["metric_per_lead"][23]
      key = (row["task"], name, "longer", metric, "27")
      assert float(found[key]) == value


def test_the_page_and_the_files_show_them(make_workdir):
  workdir, rows = rows_of(make_workdir, "boxes")
  text = page.write_report(workdir).read_text()
  for alt in (
    "The task&#x27;s metric of every forecast frame by itself",
    "Energy score of every forecast frame by itself",
    "CRPS of every forecast frame by itself",
    "Rank deviation of every forecast frame by itself",
    "The task&#x27;s metric of every forecast frame of longer clips",
  ):
    assert f'alt="{alt}' in text, alt
  assert "<caption>boxes, longer clips</caption>" in text
  markdown = (workdir / "results.md").read_text()
  assert "### boxes, longer clips, by frame" in markdown
  assert (workdir / "per_frame.csv").read_text() == leads.to_csv(rows)
  lines = csv.DictReader(io.StringIO((workdir / "results.csv").read_text()))
  by_name = {line["forecaster"]: line for line in lines}
  assert by_name["flow"]["horizon_mean"] == "0.125"
  assert by_name["climatology"]["horizon_mean"] == ""


def test_rows_without_them_show_nothing(make_workdir):
  workdir, rows = make_workdir(tasks=("boxes",), panels=0)
  bare = [
    {k: v for k, v in row.items() if not k.endswith("_per_lead")}
    for row in rows
  ]
  assert leads.all_tables(bare) == leads.drawn(bare) == []
  text = page.write_report(workdir).read_text()
  assert "no scores of single frames" in text


def test_a_row_takes_what_longer_clips_tell():
  row = {"name": "n", "clips": {}, "crps_per_lead": [1.0], "scores": {}}
  row |= {"num_nonfinite": 1, "frames": "4..27", "rank_histogram": []}
  assert results.of_horizon(row) == {
    "crps_per_lead": [1.0],
    "scores": {},
    "num_nonfinite": 1,
    "frames": "4..27",
  }


@pytest.mark.parametrize("where", ["row", "horizon"])
def test_forecasts_that_are_not_finite_are_told_on_the_page(
  make_workdir, where
):
  def change(row):
    row = with_leads(row)
    if row["forecaster"] == "flow":
      (row if where == "row" else row["horizon"])["num_nonfinite"] = 7
    return row

  workdir, rows = make_workdir(tasks=("boxes",), panels=0, change=change)
  text = page.write_report(workdir).read_text()
  total = 5150 if where == "row" else 660
  assert f"flow 7 of {total}" in text
  assert ('role="alert"><b>Forecasts that are not finite' in text) == (
    where == "row"
  )
  shown = rows if where == "row" else leads.long_rows(rows)
  assert any("flow 7 of" in n for n in tables.task_table(shown).footnotes)


@pytest.mark.filterwarnings("error::UserWarning")
def test_lines_of_many_runs_leave_room_for_what_they_show(make_workdir):
  """Of a study, whose legend would fill a panel."""
  rows = [
    row | {"name": f"run_{i}", "backbone": f"backbone_{i}"}
    for i in range(8)
    for row in rows_of(make_workdir, "depth")[1]
  ]
  figure = leads.drawn(rows)[0]
  few = leads.drawn(rows[:4])[0]
  assert figure.svg.count('id="legend_') == few.svg.count('id="legend_') == 1
  heights = [
    float(f.svg.partition('height="')[2].partition("pt")[0])
    for f in (figure, few)
  ]
  assert heights[0] > 2 * heights[1]
