"""The cells that the README shows are of this code, weights and configs."""

import csv
import functools
import json
import math
from pathlib import Path

import pytest

from forecasting.report import results, study_page
from forecasting.study import identity
from forecasting.study import queue as run_queue

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "forecasting" / "study" / "released" / "study_tiny"
CELLS = sorted((RELEASED / "cells").iterdir())


def test_there_are_three_seeds_of_every_model():
  seeds = {}
  for cell in CELLS:
    model, _, seed = cell.name.rpartition("-")
    seeds.setdefault(model, set()).add(seed)
  assert len(seeds) > 10
  assert set(map(frozenset, seeds.values())) == {frozenset("012")}


def test_cells_would_be_run_now_as_they_were(monkeypatch):
  """Also with weights that were replaced, they would not."""
  monkeypatch.chdir(ROOT)
  for cell in CELLS:
    command = json.loads((cell / run_queue.DONE).read_text())["command"]
    arguments = command[command.index("forecasting.main") + 1 :]
    identify = functools.partial(identity.identify, arguments)
    run = run_queue.Run(cell, command, identify)
    assert run_queue.is_done(run), cell
    assert not run_queue.differences(run), cell


@pytest.fixture(scope="module", name="comparison")
def fixture_comparison():
  rows = [
    row for cell in CELLS for row in results.read_rows(cell / "results.jsonl")
  ]
  return study_page.Comparison(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["findings.csv", "correlation.csv"])
def test_tables_are_those_of_the_cells(comparison, name):
  now = list(csv.DictReader(comparison.files()[name].splitlines()))
  there = list(csv.DictReader((RELEASED / name).read_text().splitlines()))
  assert len(now) == len(there)
  for found, expected in zip(now, there):
    assert found.keys() == expected.keys()
    for field, value in expected.items():
      try:
        number = float(value)
      except ValueError:
        assert found[field] == value
      else:
        assert math.isclose(float(found[field]), number, rel_tol=1e-6) or (
          math.isnan(number) and math.isnan(float(found[field]))
        )
