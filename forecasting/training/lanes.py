"""Programs that run at the same time, where one alone leaves cores idle."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax
from jax.sharding import Mesh

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lanes:
  """Calls a function for several items, on a CPU at the same time.

  A program of a tiny preset keeps 1.7 of 2 cores busy. An accelerator is filled
  by one; and programs that several devices share have to begin in the same
  order on all of them, so there the calls follow one another. Results are the
  same to the last bit.
  """

  def __init__(self, mesh: Mesh):
    """Makes as many lanes as there are cores.

    Args:
      mesh: of the devices that the function computes on.
    """
    on_cpu = mesh.size == 1 and jax.default_backend() == "cpu"
    cores = _num_cores() if on_cpu else 1
    self._pool = ThreadPoolExecutor(cores) if cores > 1 else None

  def map(
    self, function: Callable[[Item], Result], items: Sequence[Item]
  ) -> list[Result]:
    """Returns the results in the order of the items.

    Raises:
      Exception: whatever the function raises first.
    """
    # A lone program is not waited for: the host reads ahead meanwhile.
    if self._pool is None or len(items) == 1:
      return [function(item) for item in items]

    def wait(item: Item) -> Result:
      return jax.block_until_ready(function(item))

    return list(self._pool.map(wait, items))

  def close(self) -> None:
    """Ends the lanes."""
    if self._pool is not None:
      self._pool.shutdown()


def _num_cores() -> int:
  """Returns how many cores this process may use."""
  if hasattr(os, "sched_getaffinity"):  # Linux
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
