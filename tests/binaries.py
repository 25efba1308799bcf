"""Runs the binaries as a user does, for the tests beside this file."""

import subprocess
import sys
from pathlib import Path

import fast_compile

from forecasting.report import results

ROOT = Path(__file__).parents[1]
SMALL = ("--config=configs/4ds_tiny_boxes.py:smoke",)
VOLATILE = ("wall_seconds", "git_revision")


def command(binary, workdir, *flags):
  return [
    sys.executable,
    "-m",
    f"forecasting.{binary}",
    f"--workdir={workdir}",
    *flags,
  ]


def run(binary, workdir, *flags, check=True):
  done = subprocess.run(
    command(binary, workdir, *flags),
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=fast_compile.environment(),
  )
  if check:
    assert done.returncode == 0, done.stderr[-3000:]
  return done


def rows(workdir):
  return {
    results.identity(row): {k: v for k, v in row.items() if k not in VOLATILE}
    for row in results.read_rows(workdir / "results.jsonl")
  }
