"""Several processes that act as one run, through `jax.distributed` only.

A launcher sets three variables; without them a process is alone:

  FORECASTING_COORDINATOR    host:port of process 0, the same for all;
                             `auto` on TPU slices, Slurm and GKE, where JAX
                             finds out all three by itself
  FORECASTING_NUM_PROCESSES  how many there are
  FORECASTING_PROCESS_ID     which this is, from 0
"""

import contextlib
import os
from collections.abc import Iterator, Mapping

import jax
from jax.experimental import multihost_utils

COORDINATOR = "FORECASTING_COORDINATOR"
NUM_PROCESSES = "FORECASTING_NUM_PROCESSES"
PROCESS_ID = "FORECASTING_PROCESS_ID"
AUTOMATIC = "auto"


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
