"""Bold numbers are backed by a test."""

import numpy as np
import pytest

from forecasting.report import marking, tables
from forecasting.report.columns import Column

MEAN = Column("mean", "PSNR mean", "up")
FD_1 = Column("fd_1", "FD₁", "down")
N = 50
SHARED = np.random.default_rng(0).normal(size=N)  # how hard the clips are


def make(value, noise=0.01, seed=1, **fields):
  """A row whose clips differ much, but alike in all rows."""
  noise = noise * np.random.default_rng(seed).normal(size=N)
  clips = value + SHARED + noise - noise.mean() - SHARED.mean()
  replicates = 3 + value + 0.5 * SHARED + noise
  return {
    "task": "pixels",
    "name": "n",
    "backbone": "b",
    "seed": 0,
    "forecaster": f"f{seed}",
    "kind": "trained",
    "metric": "psnr",
    "higher_is_better": True,
    "num_samples": 10,
    "num_examples": N,
    "eval_list_hash": "c11b5",
    "clips": {"mean": clips.tolist()},
    "fd_1_replicates": replicates.tolist(),
    "scores": {
      "mean": {"value": value, "low": value - 0.3, "high": value + 0.3},
      "fd_1": {"value": value, "low": value - 0.9, "high": value + 0.9},
    },
  } | fields


def test_clips_in_pairs_tell_rows_apart_whose_intervals_overlap():
  rows = [make(20.0, seed=1), make(20.1, seed=2)]
  assert marking.best_rows(MEAN, rows) == {1}
  assert marking.best_rows(FD_1, rows) == {0}


def test_what_is_not_significantly_worse_is_marked_too():
  rows = [make(20.0, seed=1), make(20.001, seed=2), make(19.0, seed=3)]
  assert marking.best_rows(MEAN, rows) == {0, 1}
  rows = [make(1.0, seed=1), make(1.001, seed=2), make(2.0, seed=3)]
  assert marking.best_rows(FD_1, rows) == {0, 1}


@pytest.mark.parametrize("column", [MEAN, FD_1])
def test_rows_of_other_clips_are_compared_by_their_intervals(column):
  other = {"eval_list_hash": "0ther"}
  rows = [make(20.0, seed=1), make(20.1, seed=2, **other)]
  assert marking.best_rows(column, rows) == {0, 1}
  rows = [make(20.0, seed=1), make(29.0, seed=2, **other)]
  assert len(marking.best_rows(column, rows)) == 1


def test_nothing_is_marked_without_a_test():
  row, best = make(20.0, seed=1), make(25.0, seed=2)
  for side in (row, best):
    side["scores"]["mean"] |= {"low": None, "high": None}
    del side["clips"]
  assert marking.best_rows(MEAN, [row, best]) == set()
  assert marking.best_rows(MEAN, [make(20.0)]) == set()


def test_spread_skill_is_compared_by_its_distance_to_one():
  column = Column("spread_skill", "Spread-skill", "one")

  def row(low, value, high, seed):
    entry = {"value": value, "low": low, "high": high}
    return make(0.0, seed=seed, scores={"spread_skill": entry})

  near = row(0.9, 0.95, 1.02, 1)
  above = row(1.05, 1.06, 1.08, 2)  # as far as the lower end of the first
  far = row(0.6, 0.7, 0.8, 3)
  assert marking.best_rows(column, [near, above, far]) == {0, 1}


def test_the_note_below_the_table_says_how():
  rows = [make(20.0, seed=1), make(20.1, seed=2)]
  table = tables.task_table(rows)
  assert marking.NOTE in table.footnotes
  for row in rows:
    del row["clips"], row["fd_1_replicates"]
    for entry in row["scores"].values():
      entry |= {"low": None, "high": None}
  assert marking.NOTE not in tables.task_table(rows).footnotes
