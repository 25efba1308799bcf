"""Runs of one backbone under several settings, and how far they are apart."""

import numpy as np
import pytest
import study_rows

from forecasting.report import page, results, settings_tables
from forecasting.report.study_page import is_study

ENERGY = {
  "ours": {0: 1.0, 1: 1.1, 2: 1.2},
  "worse": {0: 1.5, 1: 1.7, 2: 1.6},
  "alone": {7: 0.5},
  "broken": {0: None, 1: None},
}


@pytest.fixture
def rows():
  rng = np.random.default_rng(0)
  made = []
  for name, seeds in ENERGY.items():
    for seed, energy in seeds.items():
      for forecaster in ("flow", "regression"):
        row = study_rows.make_row(
          "boxes", "4ds_tiny", 0.5, seed, rng, forecaster, "d1gest"
        )
        row["name"] = name
        row["scores"]["energy_score"] = {"value": energy}
        made.append(row)
  return made


def test_settings_are_told_by_their_distance_to_the_first(rows):
  flow, regression = settings_tables.settings_tables(rows)
  assert flow.title == "boxes: settings of flow"
  assert regression.title == "boxes: settings of regression"
  assert [heading.label for heading in flow.headings][:2] == [
    "Energy score",
    "Δ energy score",
  ]
  lines = {line.label: line for line in flow.lines}
  assert list(lines) == list(ENERGY)
  first = lines["ours"].cells
  assert (first[0].text, first[0].note) == ("1.1", "±0.1")
  assert first[1].text == "reference"
  # Differences 0.5, 0.6, 0.4: deviation 0.1, error 0.1 / sqrt(3).
  worse = lines["worse"]
  assert worse.kind == "3 seeds"
  assert (worse.cells[1].text, worse.cells[1].note) == ("+0.5", "±0.058")
  assert lines["alone"].cells[1].reason == "no seed in common"
  assert lines["broken"].cells[0].text == lines["broken"].cells[1].text == "–"


def test_one_settings_or_several_backbones_are_something_else(rows):
  assert settings_tables.is_settings(rows) and not is_study(rows)
  assert not settings_tables.is_settings(rows[:6])
  rows[0]["backbone"] = "dinov2_tiny"
  assert not settings_tables.is_settings(rows)


def test_report_has_the_tables(rows, tmp_path):
  folders = []
  for number, row in enumerate(rows):
    folders.append(tmp_path / str(number))
    folders[-1].mkdir()
    results.write_rows(folders[-1] / "results.jsonl", [row])
  text = page.write_comparison(folders, tmp_path).read_text()
  assert "Across settings" in text and "Across backbones" not in text
  table = (tmp_path / "results.md").read_text()
  assert table.index("boxes: settings of flow") < table.index("+0.5")
  latex = (tmp_path / "results.tex").read_text()
  assert latex.isascii() and r"$\Delta$ energy score" in latex
