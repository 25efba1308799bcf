"""A study that is killed ends, when run again, as one that was not."""

import csv
import os
import shutil
import subprocess
import sys
import time

import pytest
from binaries import ROOT, VOLATILE, rows

from forecasting.study.queue import DONE, STARTED

CELLS = ("raw_tiny-0", "4ds_tiny-0")


def _start(workdir):
  command = [
    *(sys.executable, "-m", "forecasting.study"),
    "--config=configs/study_tiny.py:smoke",
    f"--config.only={CELLS!r}",
    f"--workdir={workdir}",
  ]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  return subprocess.Popen(command, cwd=ROOT, env=environment)


def _reported(workdir):
  """Returns the rows of the report's table, but for times."""
  with (workdir / "results.csv").open(newline="") as file:
    return [
      {k: v for k, v in row.items() if k not in VOLATILE}
      for row in csv.DictReader(file)
    ]


@pytest.mark.slow
def test_a_study_killed_in_a_cell_ends_with_the_same_report(tmp_path):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  assert _start(whole).wait() == 0
  # Compiled once for both.
  shutil.copytree(whole / "compiled", killed / "compiled")
  process = _start(killed)
  done, running = (killed / "cells" / cell for cell in CELLS)
  while not (running / "metrics.jsonl").exists():
    assert process.poll() is None
    time.sleep(0.01)
  process.kill()
  process.wait()
  assert (done / DONE).exists()
  assert (running / STARTED).exists() and not (running / DONE).exists()
  assert not (killed / "report.html").exists()

  before = (done / DONE).stat().st_mtime_ns
  assert _start(killed).wait() == 0
  assert (done / DONE).stat().st_mtime_ns == before
  for cell in CELLS:
    expected = rows(whole / "cells" / cell)
    assert expected and rows(killed / "cells" / cell) == expected
  expected = _reported(whole)
  assert {row["backbone"] for row in expected} == {"raw_tiny", "4ds_tiny"}
  assert _reported(killed) == expected
  assert (killed / "report.html").exists()
