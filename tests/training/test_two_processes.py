"""Two processes with two devices each train like one, and stop together."""

import socket
import subprocess
import sys
from pathlib import Path

import fast_compile
import numpy as np
import pytest
import toy_run

from forecasting.training import checkpoint


def run_both(workdir, stop):
  """Returns exit code and output of both; the first is told to stop."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = str(probe.getsockname()[1])
  script = Path(__file__).parent / "two_processes.py"
  processes = [
    subprocess.Popen(
      [sys.executable, script, str(i), port, workdir, stop if i == 0 else "0"],
      env=fast_compile.environment(2),
      cwd=Path(__file__).parents[2],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for i in range(2)
  ]
  outputs = [p.communicate(timeout=300)[0] for p in processes]
  return [(p.returncode, text) for p, text in zip(processes, outputs)]


@pytest.mark.slow
def test_one_host_taken_away_stops_both_and_both_resume(tmp_path):
  for code, output in run_both(tmp_path / "two", stop="3"):
    assert code == 75, output
  step = max(
    int(p.name) for p in (tmp_path / "two" / checkpoint.FOLDER).iterdir()
  )
  assert 3 <= step <= 20
  one = toy_run.run(tmp_path / "one", [toy_run.trainee(steps=20)])["toy"]
  expected = float((one.ema["dense"]["kernel"] ** 2).sum())
  for code, output in run_both(tmp_path / "two", stop="0"):
    assert code == 0, output
    found = float(output.rsplit("ema ", 1)[1])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert checkpoint.is_complete(tmp_path / "two")
