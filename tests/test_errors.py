"""Wrong input to `main` ends in one clear error."""

import re
import subprocess
import sys
import threading

import pytest
import tiny_run
from binaries import SMALL, run

from forecasting.training.workdir import held

_HOLD = """
import pathlib, sys, time
from forecasting.training.workdir import held
with held(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(600)
"""


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (["--config.backbone.name=4ds_tinny"], "backbone.name.*4ds_tiny"),
    (["--config.tasks=('box',)"], "tasks.*'boxes'"),
    (["--config.trian.batch_size=4"], "trian"),
  ],
)
def test_wrong_input_ends_in_one_clear_error(flags, words, tmp_path):
  done = run("main", tmp_path, *SMALL, *flags, check=False)
  assert done.returncode != 0
  last = " ".join(done.stderr.strip().splitlines()[-6:])
  assert re.search(words, last), done.stderr[-2000:]


def test_training_that_diverges_is_stopped(tmp_path):
  tiny_run.write_latents(tmp_path / "latents")
  fields = {
    **tiny_run.FIELDS,
    "latents.path": tmp_path / "latents",
    "readout.optimizer.learning_rate": 1e30,
  }
  done = tiny_run.run(tiny_run.command("main", tmp_path / "run", fields))
  assert done.returncode != 0
  last = " ".join(done.stderr.strip().splitlines()[-6:])
  assert re.search("readout-boxes", last), done.stderr[-2000:]


def test_a_workdir_has_one_run_at_a_time(tmp_path):
  command = [sys.executable, "-c", _HOLD, str(tmp_path)]
  with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
    assert other.stdout.readline() == b"held\n"
    refused = pytest.raises(OSError, match=r"in use by another run.*delete")
    with refused, held(tmp_path):
      pass
    for binary in ("main", "eval"):
      done = run(binary, tmp_path, *SMALL, check=False)
      assert "in use by another run" in done.stderr.strip().splitlines()[-1]
    # However it ends, and if that takes a moment.
    threading.Timer(1.0, other.kill).start()
    with held(tmp_path):
      assert other.wait(60)
