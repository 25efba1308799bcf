"""Checkpoints <-> parameters; every array is used once or it is an error.

`checkpoints.py` reads the formats, a family's `route` says which array becomes
which parameter, and this file brings the two together, one array at a time, so
that no second copy of the weights is ever held. Every family also loads what
`save_weights` wrote: its parameters by their own names.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import EinopsError
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.flax import save

from forecasting.backbones.checkpoints import (
  CheckpointError,
  Entries,
  open_checkpoint,
)
from forecasting.backbones.spec import BackboneSpec, Family
from forecasting.backbones.stored import own_memory
from forecasting.shapes import Params

# Moves one array to its devices.
Place = Callable[[np.ndarray], jax.Array]


def load_weights(
  path: Path,
  expected: Params,
  family: Family,
  spec: BackboneSpec,
  *,
  dtype: Any = jnp.float32,
  place: Place = jax.device_put,
) -> Params:
  """Reads a checkpoint.

  Args:
    path: file or folder of a format that `open_checkpoint` knows.
    expected: parameters or shapes of the network, as a tree.
    family: of the backbone; names the arrays.
    spec: the backbone.
    dtype: of the parameters.
    place: puts a parameter on its devices, sharded if there are several.

  Returns:
    Parameters with the structure of `expected`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the format is unknown or damaged, or a key is missing, left over
      or has another shape; all such keys are named.
  """
  if not path.exists():
    raise FileNotFoundError(
      f"backbone.checkpoint: no file {path}; expected weights of {spec.name}"
    )
  flat = flatten_dict(expected, sep="/")
  chosen = spec.options.get("weights", "default")
  containers = family.containers if chosen == "default" else (chosen,)
  try:
    with open_checkpoint(path, containers) as entries:
      return _collect(entries, flat, family, spec, path, dtype, place)
  except CheckpointError as error:
    raise ValueError(f"backbone.checkpoint: {error}") from error


def _collect(
  entries: Entries,
  expected: Mapping[str, Any],
  family: Family,
  spec: BackboneSpec,
  path: Path,
  dtype: Any,
  place: Place,
) -> Params:
  """Renames keys, checks them against the network's and reads the arrays."""
  found, extra, misshapen = {}, [], []
  for name, read in entries:
    own = name.removeprefix("params/")
    routes = (
      [(own, np.asarray)] if own in expected else family.route(name, spec)
    )
    if routes is None or any(
      key not in expected or key in found for key, _ in routes
    ):
      extra.append(name)
      continue
    if not routes:
      continue
    shape, arrays = _changed(
      read(), [(change, expected[key].shape) for key, change in routes], dtype
    )
    arrays.reverse()
    for key, _ in routes:
      # Nothing else may hold what is placed, and nothing wait to be placed.
      if arrays[-1].shape == expected[key].shape:
        found[key] = jax.block_until_ready(place(arrays.pop()))
      else:
        misshapen.append(f"{name} {shape}, for {key} {expected[key].shape}")
        found[key] = arrays.pop().shape
  problems = [
    f"{what}: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
    for what, names in (
      ("missing", sorted(set(expected) - set(found))),
      ("not used by this backbone", extra),
      ("misshapen", misshapen),
    )
    if names
  ]
  if problems:
    raise ValueError(
      f"backbone.checkpoint: {path} does not fit {spec.name}; "
      f"{'; '.join(problems)}. Choose the backbone.name that it was made for."
    )
  return unflatten_dict(found, sep="/")


def _changed(
  source: np.ndarray,
  changes: Sequence[tuple[Callable[[np.ndarray], np.ndarray], Sequence[int]]],
  dtype: Any,
) -> tuple[tuple[int, ...], list[np.ndarray]]:
  """Returns the shape of an array and what becomes of it.

  Where a change fails (too few axes, or they do not divide) the array stays as
  it is, and where it does not lead to the wanted shape nothing is converted.
  """
  results = []
  for change, wanted in changes:
    try:
      array = change(source)
    except (ValueError, IndexError, EinopsError):
      array = source
    if array.shape != wanted:
      results.append(array)
      continue
    results.append(_aligned(array, dtype))
  return source.shape, results


def _aligned(array: np.ndarray, dtype: Any) -> np.ndarray:
  """Returns a copy, row by row, that the host's own device takes as it is.

  XLA on CPU shares memory that begins at a multiple of 64 bytes and copies
  other arrays: in the background, so that several would exist twice. A view of
  a part would keep the whole alive.
  """
  dtype = np.dtype(dtype)
  memory = own_memory(array.size * dtype.itemsize)
  copy = memory.view(dtype).reshape(array.shape)
  copy[...] = array
  return copy


def save_weights(
  path: Path, params: Params, notes: Mapping[str, Any], dtype: Any
) -> None:
  """Writes parameters under the network's own names.

  Args:
    path: of the safetensors file; replaced atomically.
    params: of a network.
    notes: stored in the file as JSON: how the weights were made.
    dtype: of the stored arrays.
  """
  arrays = {
    "params/" + name: jnp.asarray(array, dtype)
    for name, array in flatten_dict(params, sep="/").items()
  }
  metadata = {"notes": json.dumps(notes, sort_keys=True)}
  partial = path.with_name(path.name + ".tmp")
  partial.write_bytes(save(arrays, metadata))
  partial.replace(path)


def file_digest(path: Path) -> str:
  """Returns the sha256 of a file, or of all files of a folder, in hex."""
  if path.is_file():
    with path.open("rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  total = hashlib.sha256()
  for part in sorted(p for p in path.rglob("*") if p.is_file()):
    total.update(part.relative_to(path).as_posix().encode())
    total.update(file_digest(part).encode())
  return total.hexdigest()
