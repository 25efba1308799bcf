"""Numbers survive into every form of a table; the right ones are marked."""

import csv
import io
import math
import re

import pytest

from forecasting.report import columns, markup, tables


def rows_of(make_workdir, task, change=lambda row: row):
  return make_workdir(tasks=(task,), panels=0, change=change)[1]


def narrow(row):
  """Intervals that tell all rows apart."""
  for entry in row["scores"].values():
    if entry.get("low") is not None:
      size = 1e-6 * abs(entry["value"])
      entry["low"], entry["high"] = entry["value"] - size, entry["value"] + size
  return row


def column_index(table, label):
  return [heading.label for heading in table.headings].index(label)


def cells(table, label):
  index = column_index(table, label)
  return {line.label.split(" [")[0]: line.cells[index] for line in table.lines}


@pytest.mark.parametrize(
  ("values", "texts", "factor"),
  [
    ([17.94, 18.62], ["17.9", "18.6"], ""),
    ([0.00068, 0.0007], ["0.680", "0.700"], "×10⁻³"),
    ([784.3, 599.43], ["784", "599"], ""),
    ([0.0321, 0.05], ["32.1", "50.0"], "×10⁻³"),
    ([0.321, 0.05], ["0.321", "0.050"], ""),
    ([2.3, 0.0], ["2.30", "0.00"], ""),
    ([-1.5, 2.0], ["-1.50", "2.00"], ""),
    ([2.5e6, 1e6], ["2.50", "1.00"], "×10⁶"),
    ([math.nan, None, math.inf, 1.0], ["–", "–", "–", "1.00"], ""),
  ],
)
def test_number_format(values, texts, factor):
  text = columns.number_format(values)
  assert [text(value) for value in values] == texts
  assert text.factor == factor


def test_outlier_keeps_its_digits():
  text = columns.number_format([700.0, 650.0, 0.0034])
  assert text(0.0034) == "0.0034"


def test_rows_are_ordered_by_kind(make_workdir):
  table = tables.task_table(rows_of(make_workdir, "boxes"))
  kinds = [line.kind for line in table.lines]
  assert kinds == ["trained", "trained", "baseline", "baseline", "oracle"]


@pytest.mark.parametrize("task", ["depth", "points"])
def test_best_is_marked_and_the_oracle_never(make_workdir, task):
  def change(row):
    if row["kind"] == "oracle":
      for name in ("mean", "fd_1", "energy_score"):
        sign = 1 if row["higher_is_better"] and name == "mean" else -1
        row["scores"][name]["value"] *= 10.0**sign
    return narrow(row)

  rows = rows_of(make_workdir, task, change)
  table = tables.task_table(rows)
  others = [row for row in rows if row["kind"] != "oracle"]
  metric = {"depth": "AbsRel", "points": "AJ"}[task]
  pick = {"depth": min, "points": max}[task]
  for label, key, choose in (
    (f"{metric} mean", "mean", pick),
    ("FD₁", "fd_1", min),
    ("Energy score", "energy_score", min),
  ):
    best = choose(others, key=lambda row: row["scores"][key]["value"])
    marked = [n for n, cell in cells(table, label).items() if cell.is_best]
    assert marked == [best["forecaster"]], label


def test_closest_to_one_is_best(make_workdir):
  spread = {"flow": 0.5, "climatology": 1.6}
  variance = {"flow": 2.0, "regression": 0.9, "climatology": 1.5}

  def change(row):
    name = row["forecaster"]
    if row["num_samples"] > 1:
      row["scores"]["spread_skill"]["value"] = spread[name]
    row["scores"]["truth_var_time"]["value"] = 1.0
    row["scores"]["var_time"]["value"] = variance.get(name, 9.0)
    return narrow(row)

  table = tables.task_table(rows_of(make_workdir, "boxes", change))
  assert cells(table, "Spread-skill")["climatology"].is_best  # |log| smaller
  assert not cells(table, "Spread-skill")["flow"].is_best
  # Variances have no intervals: the closest is not told from the others.
  assert not any(cell.is_best for cell in cells(table, "Var time").values())
  assert "truth" in cells(table, "Var time")["flow"].note


def test_pooled_distance_only_competes_at_the_largest_number_of_samples(
  make_workdir,
):
  def change(row):
    if row["num_samples"] == 1:
      row["scores"]["fd"]["value"] = 1e-3
    return narrow(row)

  fd = cells(tables.task_table(rows_of(make_workdir, "boxes", change)), "FD")
  marked = {name for name, cell in fd.items() if cell.is_best}
  assert len(marked) == 1
  assert marked <= {"flow", "climatology"}


def test_null_values_have_a_reason(make_workdir):
  def change(row):
    if row["forecaster"] == "flow":
      row["scores"]["fd"] = {"value": None, "low": None, "high": None}
      del row["scores"]["crps"]
    return row

  table = tables.task_table(rows_of(make_workdir, "boxes", change))
  for label, reason in (
    ("FD", "undefined"),
    ("CRPS", "not computed"),
  ):
    cell = cells(table, label)["flow"]
    assert (cell.text, cell.is_best) == ("–", False)
    assert reason in cell.reason
    assert any(note.startswith(f"{cell.flag}: ") for note in table.footnotes)
  assert cells(table, "Spread-skill")["regression"].reason == (
    "one sample has no spread"
  )


def test_rank_deficiency_is_flagged(make_workdir):
  flagged = tables.task_table(rows_of(make_workdir, "pixels"))
  assert cells(flagged, "FD")["flow"].flag == "†"
  assert any("509 / 5090" in note for note in flagged.footnotes)
  plain = tables.task_table(rows_of(make_workdir, "boxes"))
  assert cells(plain, "FD")["flow"].flag == ""


def test_skipped_and_excluded_are_counted(make_workdir):
  notes = tables.task_table(rows_of(make_workdir, "boxes")).footnotes
  assert "skipped by the data reader: no motion 2" in notes
  assert any("excluded" in note and "flow 3" in note for note in notes)


def test_csv_round_trip(make_workdir):
  rows = rows_of(make_workdir, "points")
  read = list(csv.DictReader(io.StringIO(markup.to_csv(rows))))
  by_name = {line["forecaster"]: line for line in read}
  assert len(read) == len(rows)
  for row in rows:
    line = by_name[row["forecaster"]]
    for name, entry in row["scores"].items():
      assert float(line[name]) == entry["value"]
      if entry["low"] is not None:
        assert float(line[f"{name}_low"]) == entry["low"]
    known = row["futures"]["relative_energy_score"]["value"]
    assert float(line["futures_relative_energy_score"]) == known


@pytest.mark.parametrize("write", [markup.to_markdown, markup.to_latex])
def test_markup_round_trip(make_workdir, write):
  rows = rows_of(make_workdir, "points")
  table = tables.task_table(rows)
  text = write(table)
  is_latex = write is markup.to_latex
  separator = " & " if is_latex else " | "
  index = 1 + column_index(table, "FD₁")
  for row in rows:
    name = row["forecaster"]
    name = name.replace("_", r"\_") if is_latex else name
    line = next(line for line in text.splitlines() if f"{name} [S=" in line)
    number = re.search(r"-?\d+\.?\d*", line.split(separator)[index]).group()
    expected = row["scores"]["fd_1"]["value"]
    assert float(number) * 1e-3 == pytest.approx(expected, rel=0.01)
  assert "10" in text
  assert (r"\textbf{" if is_latex else "**") in text


def test_latex_takes_no_interval_for_a_distance():
  """After a line break LaTeX reads a bracket as how much space to leave."""
  cell = tables.Cell("1", "[0.5, 1.5]; ±0.1")
  table = tables.Table(
    "t", (tables.Heading("h"),), (tables.Line("a", "trained", (cell,)),)
  )
  text = markup.to_latex(table)
  assert re.search(r"\\\\\s*\[", text) is None
  assert r"1\\{}[0.5, 1.5]; $\pm$0.1" in text


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("Δ ±1 – ↑↓ m² FD₁ →1 × δ", None),
    ("Fréchet", r"Fr\'{e}chet"),
    ("10⁻³", "10$^{-}$$^3$"),
    ("a_b 5% #1 & $x {y} ~^", None),
    (r"C:\run", r"C:\textbackslash{}run"),
    ("中", "[U+4E2D]"),
  ],
)
def test_latex_text_is_ascii(text, expected):
  found = markup.latex_text(text)
  assert found.isascii()
  assert not re.search(r"(?<!\\)[#%&]", found)
  assert expected in (None, found)


def test_every_table_is_ascii_in_latex(make_workdir):
  for task in ("pixels", "depth", "points", "boxes"):
    for table in tables.all_tables(rows_of(make_workdir, task)):
      assert markup.to_latex(table).isascii(), table.title


def test_latex_has_no_bare_specials(make_workdir):
  text = markup.to_latex(tables.task_table(rows_of(make_workdir, "depth")))
  assert text.isascii()
  assert not re.search(r"(?<!\\)_(?!1\$)", text)
  widths = {
    line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")
  }
  assert len(widths) == 1


def test_future_scores_may_be_plain_numbers(make_workdir):
  def change(row):
    row["futures"]["relative_energy_score"] = 1.25
    return row

  table = tables.futures_table(rows_of(make_workdir, "boxes", change))
  assert cells(table, "Relative energy score")["flow"].text == "1.25"


def test_dressed_scores_stand_beside_the_plain_ones(make_workdir):
  rows = rows_of(make_workdir, "depth")
  table = tables.dressed_table(rows)
  drawn = [r for r in columns.order_rows(rows) if r["num_samples"] > 1]
  labels = [line.label for line in table.lines]
  assert labels == [f"{row['forecaster']} [S=10]" for row in drawn]
  headings = [heading.label for heading in table.headings]
  assert headings[2:4] == ["Energy score", "… dressed"]
  assert headings[-1] == "Widened by"
  assert {float(line.cells[-1].text) for line in table.lines} == {1.5}
  assert [h.unit for h in table.headings[:4]] == ["m²", "m²", "m", "m"]
  for line, row in zip(table.lines, drawn):
    sources = (row["scores"], row["dressed"]["scores"])
    for cell, source in zip(line.cells[2:4], sources):
      value = source["energy_score"]["value"]
      assert float(cell.text) == pytest.approx(value, abs=6e-3)
    for cell, source in zip(
      line.cells[6:8], (row["futures"], row["futures"]["dressed"])
    ):
      value = source["relative_energy_score"]["value"]
      assert float(cell.text) == pytest.approx(value, abs=6e-3)
    assert not any(cell.is_best for cell in line.cells[::2])
  for row in rows:
    row.pop("dressed", None)
  assert tables.dressed_table(rows) is None


def test_no_futures_no_table(make_workdir):
  rows = rows_of(make_workdir, "boxes")
  assert tables.futures_table([row | {"futures": None} for row in rows]) is None
