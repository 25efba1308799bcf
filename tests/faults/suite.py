"""Starts runs, disturbs them, and compares them with undisturbed ones."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import fast_compile
import tiny_run

from forecasting.training.log import METRICS, read_metrics

STEPS = 12
LAYOUTS = {1: tiny_run.ALONE, 2: (2, 1)}
_PATIENCE = 600.0  # seconds that no run takes


class NotSurvived(Exception):
  """A fault that changed numbers, lost something or gave no clear error."""


class Suite:
  """Runs that share latents, compiled programs and undisturbed results."""

  def __init__(self, folder, seed=0):
    """Makes the latents.

    Args:
      folder: of all runs.
      seed: of the times of kills.
    """
    self.folder = Path(folder)
    self.rng = np.random.default_rng(seed)
    self.latents = self.folder / "latents"
    tiny_run.write_latents(self.latents)
    self._seconds = {}

  def command(self, binary, workdir, processes=1, **changes):
    """Returns the command of a binary on the shared latents."""
    fields = tiny_run.FIELDS | {"compiled": self.folder / "compiled"}
    flags = []
    if binary == "extract":
      # On the embedded data, which is generated once.
      del fields["data.size"]
      flags = ["--split=eval"]
      fields |= {
        "data.root": self.folder / "data",
        "data.eval_clips": 7,
        "latents.batch_size": 2,
        "latents.clips_per_shard": 2,
      }
    else:
      fields |= {
        "latents.path": self.latents,
        "readout.steps": STEPS,
        "forecaster.steps": STEPS,
        "train.checkpoint_every": 3,
      }
    fields |= changes
    layout = LAYOUTS[processes]
    return tiny_run.command(binary, workdir, fields, layout, flags)

  def finish(self, binary, workdir, processes=1, **changes):
    """Runs a binary to its end, which has to be a good one."""
    done = tiny_run.run(self.command(binary, workdir, processes, **changes))
    if done.returncode:
      raise NotSurvived(f"{binary} ended with {done.returncode}: {done.stderr}")

  def refuse(self, binary, workdir, words, processes=1, **changes):
    """Runs a binary that has to end in one clear error.

    Args:
      binary: its name.
      workdir: of the run.
      words: pattern of its last lines.
      processes: how many.
      **changes: of the config.
    """
    done = tiny_run.run(self.command(binary, workdir, processes, **changes))
    last = " ".join(done.stderr.strip().splitlines()[-4:])
    if done.returncode == 0 or not re.search(words, last):
      raise NotSurvived(f"{binary}: expected {words!r}, got {last!r}")

  def undisturbed(self, binary, processes=1):
    """Returns the workdir of an undisturbed run, made once."""
    workdir = self.folder / f"undisturbed-{binary}-{processes}"
    if not workdir.exists():
      self.prepare(binary, workdir, processes)
      begin = time.monotonic()
      self.finish(binary, workdir, processes)
      self._seconds[binary, processes] = time.monotonic() - begin
    return workdir

  def prepare(self, binary, workdir, processes=1):
    """Makes a workdir as it is before a binary runs."""
    if workdir.exists():
      shutil.rmtree(workdir)
    if binary == "eval":
      shutil.copytree(self.undisturbed("main", processes), workdir)
      (workdir / "results.jsonl").unlink()

  def copy(self, name, processes=1):
    """Returns a copy of the undisturbed run of `main` that may be spoilt."""
    workdir = self.folder / name
    shutil.copytree(self.undisturbed("main", processes), workdir)
    return workdir

  def seconds(self, binary, processes):
    """Returns how long the undisturbed run took, compilation included."""
    self.undisturbed(binary, processes)
    return self._seconds[binary, processes]

  def compare(self, binary, workdir, processes=1):
    """Raises NotSurvived unless a run has what the undisturbed one has."""
    expected = self.undisturbed(binary, processes)
    contents = {
      "latents": _latents,
      "losses": tiny_run.losses,
      "parameters": tiny_run.parameters,
      "scores": tiny_run.scores,
    }
    names = ["latents"] if binary == "extract" else list(contents)[1:]
    for name in names:
      found, wanted = contents[name](workdir), contents[name](expected)
      if not wanted or found.keys() != wanted.keys():
        raise NotSurvived(f"{workdir}: other {name} than {expected}")
      for key, value in wanted.items():
        if not np.array_equal(found[key], value, equal_nan=name != "latents"):
          raise NotSurvived(f"{workdir}: {name} differ in {key}")

  def start(self, binary, workdir, processes=1, **changes):
    """Starts a binary in a process group of its own."""
    # Not in the workdir, whose disk may be full.
    log = open(self.log(workdir), "ab")  # noqa: SIM115
    return subprocess.Popen(
      self.command(binary, workdir, processes, **changes),
      cwd=tiny_run.ROOT,
      env=fast_compile.environment(),
      stdout=log,
      stderr=log,
      start_new_session=True,
    )

  def log(self, workdir):
    """Returns the file that started runs of a workdir write to."""
    return self.folder / f"{workdir.name}.log"

  def wait_for_step(self, workdir, step, process):
    """Returns when a run has logged a step."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
      rows = read_metrics(workdir / METRICS)
      if rows and rows[-1]["step"] >= step:
        return
      time.sleep(0.01)
    raise NotSurvived(f"{workdir}: never at step {step}")


def workers(process):
  """Returns the ids of the processes of a run; of none that is starting."""
  path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
  children = path.read_text().split() if path.exists() else []
  return [int(child) for child in children]


def end(process, victim=None):
  """Kills a process of a run, and waits for the end of all.

  Args:
    process: of `Suite.start`.
    victim: id of the process to kill; None: all at once.
  """
  if victim is not None:
    os.kill(victim, signal.SIGKILL)
    process.wait(_PATIENCE)
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait(_PATIENCE)


def _latents(workdir):
  root = workdir / "latents"
  return {
    path.relative_to(root).as_posix(): np.frombuffer(path.read_bytes(), "u1")
    for path in root.rglob("*")
    if path.is_file()
  }
