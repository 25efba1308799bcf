"""Several processes that act as one run, through `jax.distributed` only.

A launcher sets three variables; without them a process is alone:

  FORECASTING_COORDINATOR    host:port of process 0, the same for all;
                             `auto` on TPU slices, Slurm and GKE, where JAX
                             finds out all three by itself
  FORECASTING_NUM_PROCESSES  how many there are
  FORECASTING_PROCESS_ID     which this is, from 0
"""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

COORDINATOR = "FORECASTING_COORDINATOR"
NUM_PROCESSES = "FORECASTING_NUM_PROCESSES"
PROCESS_ID = "FORECASTING_PROCESS_ID"
AUTOMATIC = "auto"

# Bytes of each process that are exchanged at a time: every device holds those
# of all processes at once.
_CHUNK = 2**22


def settings(environment: Mapping[str, str]) -> dict[str, str | int] | None:
  """Returns the arguments of `jax.distributed.initialize`; None if alone.

  Args:
    environment: variables of the process.

  Raises:
    ValueError: a variable is missing, or no number in range.
  """
  coordinator = environment.get(COORDINATOR, "")
  given = [v for v in (NUM_PROCESSES, PROCESS_ID) if environment.get(v)]
  if not coordinator:
    if given:
      raise ValueError(f"{given[0]} is set, but {COORDINATOR} is not")
    return None
  if coordinator == AUTOMATIC:
    return {}
  try:
    count = int(environment[NUM_PROCESSES])
    index = int(environment[PROCESS_ID])
  except (KeyError, ValueError) as error:
    raise ValueError(
      f"{COORDINATOR}={coordinator} needs whole numbers in {NUM_PROCESSES} "
      f"and {PROCESS_ID} ({error}), or set {COORDINATOR}={AUTOMATIC}"
    ) from error
  if ":" not in coordinator or not 0 <= index < count:
    raise ValueError(
      f"{COORDINATOR}={coordinator}, {NUM_PROCESSES}={count}, {PROCESS_ID}="
      f"{index}: expected host:port, and a process from 0 to {count - 1}"
    )
  return {
    "coordinator_address": coordinator,
    "num_processes": count,
    "process_id": index,
  }


def initialize() -> None:
  """Joins the other processes of the run, before any device is used.

  Does nothing if no variable is set.

  Raises:
    ValueError: the variables are incomplete.
  """
  arguments = settings(os.environ)
  if arguments is None:
    return
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(**arguments)


@contextlib.contextmanager
def first_process_first(what: str) -> Iterator[None]:
  """Lets process 0 through a block before the others, on a shared folder.

  So it makes files once, which the others then find. All processes have to
  enter; there must be no other barrier inside.

  Args:
    what: is made; names the barrier.
  """
  if jax.process_count() == 1:
    yield
    return
  if jax.process_index() > 0:
    multihost_utils.sync_global_devices(what)
  yield
  if jax.process_index() == 0:
    multihost_utils.sync_global_devices(what)


def wait_for_all(what: str) -> None:
  """Returns when every process is here.

  Args:
    what: was done before; names the barrier.
  """
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def first_says(answer: bool) -> bool:
  """Returns process 0's answer in all processes."""
  if jax.process_count() == 1:
    return answer
  return bool(multihost_utils.broadcast_one_to_all(np.array(answer)))


def gather_arrays(
  arrays: Mapping[str, np.ndarray],
) -> list[dict[str, np.ndarray]]:
  """Exchanges named arrays, which may differ from process to process.

  They travel as bytes: JAX would round float64.

  Args:
    arrays: of this process; no Python objects.

  Returns:
    Those of every process, in the order of processes, bit for bit.
  """
  if jax.process_count() == 1:
    return [dict(arrays)]
  file = io.BytesIO()
  np.savez(file, **arrays)
  own = np.frombuffer(file.getbuffer(), np.uint8)
  size = np.array([len(own)], np.uint64).view(np.uint8)
  sizes = np.asarray(multihost_utils.process_allgather(size))
  sizes = np.ascontiguousarray(sizes).view(np.uint64)[:, 0].astype(int)
  parts: list[list[bytes]] = [[] for _ in sizes]
  for start in range(0, sizes.max(), _CHUNK):
    piece = np.zeros(min(_CHUNK, sizes.max() - start), np.uint8)
    mine = own[start : start + len(piece)]
    piece[: len(mine)] = mine
    for part, row in zip(parts, multihost_utils.process_allgather(piece)):
      part.append(np.asarray(row).tobytes())
  contents = [b"".join(p)[:size] for p, size in zip(parts, sizes)]
  return [dict(np.load(io.BytesIO(content))) for content in contents]
