"""Independent batches, shared by the devices of all processes.

Every batch is computed as one process with one device would compute it, and
the results are put back in the order of the batches. So they are the same
numbers, to the last bit, however many take part.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from tqdm import tqdm

from forecasting.training import distributed

Arrays = dict[str, np.ndarray]

# Of a device: one reads or scores on the host while the other computes. On a
# CPU both may compute, as one program leaves cores idle.
_THREADS = 2


class Device:
  """One of this process's devices; an accelerator is used by one thread."""

  def __init__(self, device: jax.Device):
    """Takes a device."""
    self._device = device
    self._free = threading.Semaphore(1)
    self._more = _THREADS - 1 if jax.default_backend() == "cpu" else 0

  @contextlib.contextmanager
  def use(self) -> Iterator[None]:
    """Waits for the device and lets JAX compute on it."""
    with self._free, jax.default_device(self._device):
      yield
    # The first use, which is alone, compiles what all others need.
    more, self._more = self._more, 0
    if more:
      self._free.release(more)


def map_batches(
  work: Callable[[int, Device], Mapping[str, np.ndarray]],
  num_batches: int,
  title: str | None = None,
) -> list[Arrays]:
  """Does the work of every batch once; all processes have to call this.

  Args:
    work: (number of a batch, device) -> named arrays. What is computed with
      JAX has to be inside of `device.use()`.
    num_batches: how many there are.
    title: of a progress bar; None shows none.

  Returns:
    The arrays of all batches in order, the same in every process.
  """
  devices = [Device(device) for device in jax.local_devices()]
  mine = range(jax.process_index(), num_batches, jax.process_count())
  threads = min(_THREADS * len(devices), max(len(mine), 1))
  with ThreadPoolExecutor(threads) as pool:
    pending = [
      pool.submit(work, batch, devices[turn % len(devices)])
      for turn, batch in enumerate(mine)
    ]
    hidden = title is None or jax.process_index() > 0
    bar = tqdm(pending, desc=title, disable=hidden)
    try:
      results = [dict(future.result()) for future in bar]
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
  if jax.process_count() == 1:
    return results
  named = {
    f"{batch}:{name}": value
    for batch, result in zip(mine, results)
    for name, value in result.items()
  }
  joined: list[Arrays] = [{} for _ in range(num_batches)]
  for part in distributed.gather_arrays(named):
    for key, value in part.items():
      batch, name = key.split(":", 1)
      joined[int(batch)][name] = value
  return joined
