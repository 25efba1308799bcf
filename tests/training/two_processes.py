"""One of two processes of a run: two_processes.py INDEX PORT WORKDIR STOP.

With a STOP above 0 this process terminates itself before that fetch, as when
one host of a slice is taken away.
"""

import os
import signal
import sys

import grain
import jax
import toy_run

from forecasting.training.mesh import make_mesh


class Half(grain.DatasetIterator):
  """This process's half of the batches of `toy_run`."""

  def __init__(self, stop):
    """Sends SIGTERM to itself before fetch number `stop`."""
    super().__init__()
    self._batches, self._left = toy_run.batches(), stop

  def __next__(self):
    """Returns four of eight examples."""
    self._left -= 1
    if self._left == 0:
      os.kill(os.getpid(), signal.SIGTERM)
    start = 4 * jax.process_index()
    return {k: v[start : start + 4] for k, v in next(self._batches).items()}

  def get_state(self):
    """Returns the position."""
    return self._batches.get_state()

  def set_state(self, state):
    """Sets the position."""
    self._batches.set_state(state)

  def start_prefetch(self):
    """Does nothing ahead."""


def main(index, port, workdir, stop):
  """Trains on two processes of two devices, and prints the end."""
  jax.distributed.initialize(f"localhost:{port}", 2, int(index))
  mesh = make_mesh(fsdp=2)
  trainees = [toy_run.trainee(steps=20)]
  state = toy_run.run(workdir, trainees, Half(int(stop)), mesh=mesh)["toy"]
  square = jax.jit(lambda x: (x**2).sum())
  print(f"ema {float(square(state.ema['dense']['kernel']))!r}")


if __name__ == "__main__":
  main(*sys.argv[1:])
