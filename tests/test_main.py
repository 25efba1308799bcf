"""The pipeline end to end, in its smoke form, through the real binaries."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from forecasting.report import results
from forecasting.training import checkpoint

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
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  if check:
    assert done.returncode == 0, done.stderr[-3000:]
  return done


def rows(workdir):
  return {
    results.identity(row): {k: v for k, v in row.items() if k not in VOLATILE}
    for row in results.read_rows(workdir / "results.jsonl")
  }


def flat(value, path=""):
  """Numbers of nested JSON by path."""
  if isinstance(value, dict):
    items = value.items()
  elif isinstance(value, list):
    items = enumerate(value)
  else:
    return {path: value} if isinstance(value, (int, float)) else {}
  return {
    k: v for key, item in items for k, v in flat(item, f"{path}/{key}").items()
  }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("quickstart")
  run("main", workdir, "--config=configs/quickstart.py:smoke")
  return workdir


def test_main_scores_everything_it_promises(finished):
  found = {(row["task"], row["forecaster"]) for row in rows(finished).values()}
  everywhere = {
    "flow",
    "regression",
    "persistence_latent",
    "persistence_output",
    "climatology",
    "oracle_future",
  }
  expected = {
    (task, name)
    for task in ("pixels", "depth", "points", "boxes")
    for name in everywhere
  }
  expected |= {(task, "constant_velocity") for task in ("points", "boxes")}
  assert found == expected
  assert (finished / "report.html").stat().st_size > 10_000
  assert json.loads((finished / "config.json").read_text())["seed"] == 0


def test_every_row_has_intervals_around_its_scores(finished):
  for row in rows(finished).values():
    entry = row["scores"]["mean"]
    if entry["value"] is not None:
      assert entry["low"] <= entry["value"] <= entry["high"]
    assert row["scores"]["perception"]["value"] is not None


def test_eval_repeats_the_numbers_of_main(finished):
  before = rows(finished)
  run("eval", finished, "--config=configs/quickstart.py:smoke")
  assert rows(finished) == before


def test_results_depend_on_neither_batch_size_nor_number_of_samples(finished):
  before = rows(finished)
  run(
    "eval",
    finished,
    "--config=configs/quickstart.py:smoke",
    "--config.eval.batch_size=3",
    "--config.name=other_batch",
  )
  run(
    "eval",
    finished,
    "--config=configs/quickstart.py:smoke",
    "--config.eval.num_samples=6",
    "--config.name=more_samples",
  )
  after = rows(finished)
  for identity, row in before.items():
    other = flat(after[("other_batch", *identity[1:])])
    for path, value in flat(row).items():
      assert other[path] == pytest.approx(value, rel=2e-4, abs=1e-5), path
    more = after[("more_samples", *identity[1:])]
    first, second = (results.score(r, "fd_1") for r in (row, more))
    assert second == pytest.approx(first, rel=2e-4, abs=1e-7, nan_ok=True)


def final_parameters(workdir):
  params = checkpoint.restore_ema(workdir)
  leaves = {}

  def visit(tree, path):
    for key, value in tree.items():
      if isinstance(value, dict):
        visit(value, (*path, key))
      else:
        leaves[(*path, key)] = np.asarray(value)

  visit(params, ())
  return leaves


def test_killing_at_any_time_changes_nothing(tmp_path):
  undisturbed, killed = tmp_path / "whole", tmp_path / "killed"
  run("main", undisturbed, *SMALL)
  rng = np.random.default_rng(0)
  deaths = 0
  for delay in rng.uniform(4, 25, size=5):
    process = subprocess.Popen(
      command("main", killed, *SMALL),
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
  run("main", killed, *SMALL)
  expected, found = final_parameters(undisturbed), final_parameters(killed)
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=str(name))
  assert rows(killed) == rows(undisturbed)


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (["--config.backbone.name=4ds_tinny"], "backbone.name.*4ds_tiny"),
    (["--config.tasks=('box',)"], "tasks.*'boxes'"),
    (["--config.trian.batch_size=4"], "trian"),
    (["--config.readout.optimizer.learning_rate=1e30"], "readout-boxes"),
  ],
)
def test_wrong_input_ends_in_one_clear_error(finished, flags, words, tmp_path):
  shared = [
    f"--config.data.root={finished / 'data'}",
    f"--config.latents.root={finished / 'latents'}",
  ]
  done = run("main", tmp_path, *SMALL, *shared, *flags, check=False)
  assert done.returncode != 0
  last = " ".join(done.stderr.strip().splitlines()[-6:])
  assert re.search(words, last), done.stderr[-2000:]
