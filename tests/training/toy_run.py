"""A training run of seconds that tests kill: python toy_run.py WORKDIR."""

import sys
import time
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np

from forecasting.config import optimizer_config
from forecasting.training.loop import fit
from forecasting.training.mesh import make_mesh
from forecasting.training.steps import Trainee

STEPS = {"long": 60, "short": 33}
WIDTH = 256


def init(key):
  """Returns a kernel just large enough to be split, and two small arrays."""
  return {
    "dense": {
      "kernel": jax.random.uniform(key, (WIDTH, WIDTH)) / WIDTH,
      "bias": jnp.zeros(WIDTH),
    },
    "scale": jnp.ones(()),
  }


def loss(params, batch, key):
  """Denoising of the batch, so that every draw of the key matters."""
  noise = jax.random.uniform(key, batch["x"].shape)
  output = (batch["x"] + 0.1 * noise) @ params["dense"]["kernel"]
  output = params["scale"] * output + params["dense"]["bias"]
  error = jnp.mean((output - batch["x"]) ** 2)
  return error, {"mse": error}


def trainee(name="toy", steps=20, **changes):
  """Returns a trainee of this loss."""
  optimizer = optimizer_config(1e-3, weight_decay=1e-2, b2=0.99)
  optimizer.update(changes.pop("optimizer", {}))
  fields = {"init": init, "loss": loss, "ema_decay": 0.9, **changes}
  return Trainee(name=name, optimizer=optimizer, steps=steps, **fields)


class Rows:
  """Random-access source of random rows, slow on request."""

  def __init__(self, delay=0.0):
    """Waits `delay` seconds for each row."""
    self._delay = delay

  def __len__(self):
    """Returns a number that the batch size does not divide."""
    return 50

  def __getitem__(self, index):
    """Returns one row."""
    time.sleep(self._delay)
    rng = np.random.default_rng(int(index))
    return {"x": rng.normal(size=WIDTH).astype(np.float32)}


def batches(delay=0.0):
  """Returns an infinite shuffled iterator of batches of 8."""
  dataset = grain.MapDataset.source(Rows(delay)).shuffle(seed=3).repeat()
  return iter(dataset.batch(8).to_iter_dataset())


def run(workdir, trainees=None, data=None, **changes):
  """Runs `fit` with settings that exercise every branch in 60 steps."""
  options = {
    "seed": 5,
    "mesh": make_mesh(),
    "log_every": 1,
    "checkpoint_every": 7,
    "keep": 2,
    "progress": False,
    **changes,
  }
  return fit(
    trainees or [trainee(name, steps) for name, steps in STEPS.items()],
    data or batches(),
    workdir=Path(workdir),
    **options,
  )


if __name__ == "__main__":
  run(sys.argv[1], data=batches(delay=0.003), progress=True)
