"""The device mesh, and the one rule that places arrays on it.

Batches are split over both axes; parameters, averages and optimizer state are
split over `fsdp` alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("data", "fsdp")
MIN_SPLIT_SIZE = 2**16  # elements; splitting less costs more than it saves


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
  """Returns the mesh `('data', 'fsdp')`.

  Args:
    fsdp: number of devices over which parameters are split.
    devices: None: those of all processes.

  Raises:
    ValueError: the number of devices does not divide by `fsdp`.
  """
  count = jax.device_count() if devices is None else len(devices)
  if fsdp < 1 or count % fsdp:
    raise ValueError(
      f"train.fsdp={fsdp}: expected a divisor of the {count} devices of this "
      "run; set it to 1 to keep a full copy of the parameters on each"
    )
  # Explicit, the default of axis_types, breaks Linen attention with sharded
  # parameters.
  return jax.make_mesh(
    (count // fsdp, fsdp),
    AXES,
    axis_types=(AxisType.Auto,) * 2,
    devices=devices,
  )


def array_spec(shape: tuple[int, ...], fsdp: int) -> P:
  """Returns how an array of the training state is split.

  Small arrays are replicated; of others the largest dimension that divides by
  `fsdp` is split (the last one of several equal ones).

  Source: big_vision's rule, the threshold is our choice.
  """
  divisible = [i for i, size in enumerate(shape) if size % fsdp == 0]
  if fsdp == 1 or not divisible or np.prod(shape) < MIN_SPLIT_SIZE:
    return P()
  split = max(divisible, key=lambda i: (shape[i], i))
  return P(*["fsdp" if i == split else None for i in range(len(shape))])


def state_shardings(abstract: Any, mesh: Mesh) -> Any:
  """Returns the tree of shardings of a tree of (abstract) arrays."""
  return jax.tree.map(
    lambda x: NamedSharding(mesh, array_spec(x.shape, mesh.shape["fsdp"])),
    abstract,
  )


def replicate(make: Callable[[], Any], mesh: Mesh) -> Any:
  """Returns what `make` computes, as a full copy on each device."""
  # device_put refuses random keys on devices of other processes.
  return jax.jit(make, out_shardings=NamedSharding(mesh, P()))()


def shard_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
  """Moves this process's part of a batch to its devices.

  Args:
    batch: name to host array whose first axis is the example.
    mesh: as from `make_mesh`.

  Returns:
    Name to global array, split over examples.

  Raises:
    ValueError: the examples cannot be dealt out evenly.
  """
  local = mesh.local_mesh.size
  uneven = {k: np.shape(v) for k, v in batch.items() if len(v) % local}
  if uneven:
    raise ValueError(
      f"batch of {uneven} cannot be split over {local} local devices: "
      "train.batch_size must be a multiple of the number of devices"
    )
  sharding = NamedSharding(mesh, P(AXES))
  if jax.process_count() == 1:
    return jax.device_put(dict(batch), sharding)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
    for name, value in batch.items()
  }
