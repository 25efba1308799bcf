"""A run of seconds on latents of noise, in any number of processes."""

import ast
import subprocess
import sys
from pathlib import Path

import fast_compile
import jax
import numpy as np

from forecasting import config as config_lib
from forecasting.latents import store
from forecasting.report import results
from forecasting.training import checkpoint
from forecasting.training.log import METRICS, read_metrics

ROOT = Path(__file__).parents[1]
CONFIG = "configs/4ds_tiny_boxes.py:smoke"
ALONE = (1, 1)
FIELDS = {
  "data.size": 16,
  "data.held_out_clips": 0,
  "readout.width": 16,
  "readout.query_hidden": 16,
  "forecaster.model.width": 16,
  "forecaster.model.heads": 1,
  "forecasters": '("flow",)',
  "baselines": '("persistence_latent","constant_velocity","climatology")',
  "train.log_every": 1,
  "eval.batch_size": 2,
  "eval.num_samples": 3,
}


def write_latents(folder, poisoned=(), **about):
  """Writes stores of 16 and 7 clips.

  Args:
    folder: gets `train` and `eval`.
    poisoned: clips for training whose boxes are not a number.
    **about: further fields of their manifests.
  """
  for split, count in (("train", 16), ("eval", 7)):
    rng = np.random.default_rng(count)
    examples = [
      {
        "clip_id": f"{split} {i}",
        "seconds": np.arange(16, dtype=np.float32) / 12.5,
        "video": rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8),
        "boxes": rng.uniform(size=(16, 5, 4)).astype(np.float32),
        # Objects that come and go, so that clips have unequal rows.
        "box_mask": rng.uniform(size=(16, 5)) < 0.98,
        "object_mask": np.ones(5, bool),
        "context": rng.normal(size=(2, 2, 2, 8)),
        "clip": rng.normal(size=(8, 2, 2, 8)),
      }
      for i in range(count)
    ]
    if split == "train":
      for i in poisoned:
        examples[i]["boxes"][:] = np.nan
    store.write_examples(
      folder / split,
      examples,
      backbone="noise",
      dataset="noise",
      split=split,
      context_mode="crop_pos",
      num_context=4,
      **about,
    )


def config(**fields):
  """Returns the config of `command`, for runs in this process.

  Args:
    **fields: replaced, beside those of `FIELDS`.
  """
  cfg = config_lib.experiment("4ds_tiny", "boxes")("smoke")
  texts = {
    name: ast.literal_eval(value) if isinstance(value, str) else value
    for name, value in FIELDS.items()
  }
  with cfg.unlocked():
    cfg.update_from_flattened_dict(texts | fields)
  return cfg


def command(binary, workdir, fields, layout=ALONE, flags=()):
  """Returns the command of a binary.

  Args:
    binary: its name.
    workdir: of the run.
    fields: of the config, replaced.
    layout: processes, and devices of each.
    flags: further ones.
  """
  launcher = [sys.executable, "-m", f"forecasting.{binary}"]
  if layout != ALONE:
    processes, devices = layout
    launcher = [
      *(sys.executable, "launch/local_processes.py", "--grace_seconds=5"),
      *(f"--num_processes={processes}", f"--devices={devices}", binary),
    ]
  return [
    *launcher,
    f"--config={CONFIG}",
    f"--workdir={workdir}",
    *(f"--config.{name}={value}" for name, value in fields.items()),
    *flags,
  ]


def run(arguments):
  """Runs a command to its end."""
  return subprocess.run(
    arguments,
    cwd=ROOT,
    env=fast_compile.environment(),
    capture_output=True,
    text=True,
    check=False,
  )


def losses(workdir):
  """Returns (step, trainee) -> loss."""
  rows = read_metrics(workdir / METRICS)
  return {(row["step"], row["trainee"]): row["loss"] for row in rows}


def scores(workdir):
  """Returns the numbers of all result rows by their path."""
  rows = results.read_rows(workdir / "results.jsonl")
  for row in rows:
    del row["wall_seconds"]
  return _numbers({row["forecaster"]: row for row in rows})


def parameters(workdir):
  """Returns the averaged parameters by their path."""
  _, params = checkpoint.restore_ema(workdir)
  return {
    jax.tree_util.keystr(path): np.asarray(value)
    for path, value in jax.tree_util.tree_leaves_with_path(params)
  }


def _numbers(value, path=""):
  if isinstance(value, int | float):
    return {path: value}
  if not isinstance(value, dict | list):
    return {}
  items = value.items() if isinstance(value, dict) else enumerate(value)
  found = {}
  for key, item in items:
    found |= _numbers(item, f"{path}/{key}")
  return found
