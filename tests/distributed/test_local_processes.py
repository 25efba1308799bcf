"""However processes and devices share a run, it has the numbers of one."""

import shutil

import numpy as np
import pytest
import tiny_run

from forecasting.training import checkpoint

STEPS = 50
# Processes and devices of each.
LAYOUTS = ((1, 4), (2, 2), (4, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Returns a folder with latents, which all runs use."""
  folder = tmp_path_factory.mktemp("runs")
  tiny_run.write_latents(folder / "latents")
  return folder


def _run(binary, folder, workdir, layout):
  fields = tiny_run.FIELDS | {
    "latents.path": folder / "latents",
    "compiled": folder / "compiled",
    "readout.steps": STEPS,
    "forecaster.steps": STEPS,
    "train.checkpoint_every": STEPS // 2,
  }
  done = tiny_run.run(tiny_run.command(binary, workdir, fields, layout))
  assert done.returncode == 0, done.stderr[-3000:]
  assert done.stdout.count("report: ") == 1
  assert (workdir / "report.html").exists()


@pytest.fixture(scope="module")
def alone(folder):
  """Returns the workdir of one process with one device."""
  _run("main", folder, folder / "alone", tiny_run.ALONE)
  return folder / "alone"


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda x: f"{x[0]}x{x[1]}")
def shared(folder, request):
  """Returns the workdir of a run of several devices."""
  workdir = folder / f"{request.param}"
  _run("main", folder, workdir, request.param)
  return workdir


def _agree(found, expected, rtol):
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol, err_msg=str(name))


@pytest.mark.slow
def test_losses_are_those_of_one_device(alone, shared):
  expected = tiny_run.losses(alone)
  assert len(expected) == 2 * STEPS
  _agree(tiny_run.losses(shared), expected, 1e-5)


@pytest.mark.slow
def test_evaluation_is_that_of_one_process(folder, shared, tmp_path):
  """To the last bit, since every batch is computed as one process would."""
  workdir = tmp_path / "run"
  shutil.copytree(shared, workdir)
  (workdir / "results.jsonl").unlink()
  _run("eval", folder, workdir, tiny_run.ALONE)
  expected = tiny_run.scores(workdir)
  assert len(expected) > 100
  _agree(tiny_run.scores(shared), expected, 0)


@pytest.mark.slow
def test_a_run_goes_on_in_another_layout(folder, alone, tmp_path):
  """As one process with one device, then two with two."""
  workdir = tmp_path / "run"
  shutil.copytree(alone, workdir)
  shutil.rmtree(workdir / checkpoint.FOLDER / str(STEPS))
  (workdir / checkpoint.COMPLETE).unlink()
  _run("main", folder, workdir, (2, 2))
  assert not (workdir / checkpoint.UNREADABLE).exists()
  _agree(tiny_run.losses(workdir), tiny_run.losses(alone), 1e-5)


@pytest.mark.slow
def test_latents_are_those_of_one_process_byte_by_byte(folder):
  contents = []
  for layout in (tiny_run.ALONE, (2, 1)):
    workdir = folder / f"extract {layout}"
    fields = {
      "compiled": folder / "compiled",
      "data.root": folder / "data",
      "data.eval_clips": 7,
      "latents.batch_size": 2,
      "latents.clips_per_shard": 2,
    }
    command = tiny_run.command(
      "extract", workdir, fields, layout, ["--split=eval"]
    )
    done = tiny_run.run(command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("eval: 7 clips") == 1
    root = workdir / "latents"
    files = [path for path in root.rglob("*") if path.is_file()]
    contents.append({p.relative_to(root): p.read_bytes() for p in files})
  # Four shards, each with its checksum, the manifest and the store's lock.
  assert contents[0] == contents[1] and len(contents[0]) == 10
