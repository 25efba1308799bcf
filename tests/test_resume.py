"""Killing `main` at any time changes nothing about how it ends."""

import os
import signal
import subprocess
import time

import numpy as np
import pytest
from binaries import ROOT, SMALL, command, rows, run

from forecasting.training import checkpoint


def final_parameters(workdir):
  params = checkpoint.restore_ema(workdir)[1]
  leaves = {}

  def visit(tree, path):
    for key, value in tree.items():
      if isinstance(value, dict):
        visit(value, (*path, key))
      else:
        leaves[(*path, key)] = np.asarray(value)

  visit(params, ())
  return leaves


# XLA hardly optimizes, as in all tests; or as for users, who set no flags.
@pytest.mark.slow
@pytest.mark.parametrize("xla_flags", [None, ""], ids=["fast", "optimized"])
def test_killing_at_any_time_changes_nothing(tmp_path, xla_flags, monkeypatch):
  if xla_flags is not None:
    monkeypatch.setenv("XLA_FLAGS", xla_flags)
  undisturbed, killed = tmp_path / "whole", tmp_path / "killed"
  # Compiled once for all of them.
  flags = (*SMALL, f"--config.compiled={tmp_path / 'compiled'}")
  run("main", undisturbed, *flags)
  rng = np.random.default_rng(0)
  deaths = 0
  for delay in rng.uniform(4, 16, size=2):
    process = subprocess.Popen(
      command("main", killed, *flags),
      cwd=ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
    )
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline and process.poll() is None:
      time.sleep(0.05)
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
      deaths += 1
    process.wait()
  assert deaths > 0
  run("main", killed, *flags)
  expected, found = final_parameters(undisturbed), final_parameters(killed)
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=str(name))
  assert rows(killed) == rows(undisturbed)
