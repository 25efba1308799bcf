"""However processes and devices share a run, it has the numbers of one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from forecasting.latents import store
from forecasting.report import results
from forecasting.training import checkpoint
from forecasting.training.log import read_metrics

ROOT = Path(__file__).parents[2]
STEPS = 50
# Processes and devices of each.
ONE, LAYOUTS = (1, 1), ((1, 4), (2, 2), (4, 1))
FIELDS = {
  "data.size": 16,
  "readout.width": 16,
  "readout.query_hidden": 16,
  "readout.steps": STEPS,
  "forecaster.steps": STEPS,
  "forecaster.model.width": 16,
  "forecaster.model.heads": 1,
  "forecasters": '("flow",)',
  "baselines": '("persistence_latent","constant_velocity","climatology")',
  "train.log_every": 1,
  "train.checkpoint_every": STEPS // 2,
  "eval.batch_size": 2,
  "eval.num_samples": 3,
}


def _write_latents(folder):
  for split, count in (("train", 16), ("eval", 7)):
    rng = np.random.default_rng(count)
    video = (16, 16, 16, 3)
    store.write_examples(
      folder / split,
      [
        {
          "clip_id": f"{split} {i}",
          "seconds": np.arange(16, dtype=np.float32) / 12.5,
          "video": rng.integers(0, 256, video, dtype=np.uint8),
          "boxes": rng.uniform(size=(16, 5, 4)).astype(np.float32),
          # Objects that come and go, so that clips have unequal rows.
          "box_mask": rng.uniform(size=(16, 5)) < 0.98,
          "object_mask": np.ones(5, bool),
          "context": rng.normal(size=(2, 2, 2, 8)),
          "clip": rng.normal(size=(8, 2, 2, 8)),
        }
        for i in range(count)
      ],
      backbone="noise",
      dataset="noise",
      split=split,
      context_mode="crop_pos",
      num_context=4,
    )


def _run(binary, latents, workdir, layout):
  """Runs a binary in so many processes with so many devices each."""
  fields = FIELDS | {"latents.path": latents}
  done = subprocess.run(
    [
      *(sys.executable, "launch/local_processes.py"),
      *(f"--num_processes={layout[0]}", f"--devices={layout[1]}", binary),
      "--config=configs/4ds_tiny_boxes.py:smoke",
      f"--workdir={workdir}",
      *(f"--config.{name}={value}" for name, value in fields.items()),
    ],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert done.stdout.count("report: ") == 1
  assert (workdir / "report.html").exists()


def _losses(workdir):
  rows = read_metrics(workdir / "metrics.jsonl")
  return {(row["step"], row["trainee"]): row["loss"] for row in rows}


def _numbers(value, path=""):
  """Numbers of nested JSON by path."""
  if isinstance(value, int | float):
    return {path: value}
  if not isinstance(value, dict | list):
    return {}
  items = value.items() if isinstance(value, dict) else enumerate(value)
  found = {}
  for key, item in items:
    found |= _numbers(item, f"{path}/{key}")
  return found


def _scores(workdir):
  rows = results.read_rows(workdir / "results.jsonl")
  for row in rows:
    del row["wall_seconds"]
  return _numbers({row["forecaster"]: row for row in rows})


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  """Returns the latents and the workdir of one process with one device."""
  folder = tmp_path_factory.mktemp("one")
  _write_latents(folder / "latents")
  _run("main", folder / "latents", folder / "run", ONE)
  return folder / "latents", folder / "run"


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda x: f"{x[0]}x{x[1]}")
def shared(one, request, tmp_path_factory):
  """Returns the workdir of a run of several devices."""
  workdir = tmp_path_factory.mktemp("shared")
  _run("main", one[0], workdir, request.param)
  return workdir


def _agree(found, expected, rtol):
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol, err_msg=str(name))


@pytest.mark.slow
def test_losses_are_those_of_one_device(one, shared):
  expected = _losses(one[1])
  assert len(expected) == 2 * STEPS
  _agree(_losses(shared), expected, 1e-5)


@pytest.mark.slow
def test_evaluation_is_that_of_one_process(one, shared, tmp_path):
  """To the last bit, since every batch is computed as one process would."""
  alone = tmp_path / "alone"
  shutil.copytree(shared, alone)
  (alone / "results.jsonl").unlink()
  _run("eval", one[0], alone, ONE)
  expected = _scores(alone)
  assert len(expected) > 100
  # Only the parameters differ from those that one device trained.
  _agree(_scores(shared), expected, 0)


@pytest.mark.slow
def test_a_run_goes_on_in_another_layout(one, tmp_path):
  """As one process with one device, then two with two."""
  workdir = tmp_path / "run"
  shutil.copytree(one[1], workdir)
  shutil.rmtree(workdir / checkpoint.FOLDER / str(STEPS))
  (workdir / checkpoint.COMPLETE).unlink()
  _run("main", one[0], workdir, (2, 2))
  assert not (workdir / checkpoint.UNREADABLE).exists()
  _agree(_losses(workdir), _losses(one[1]), 1e-5)
