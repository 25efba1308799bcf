"""Checkpoint files <-> parameters; every key is used once or it is an error.

4DS: the public `.npz` files hold Flax paths joined by '/', below
`params/layers_0/` (the model was wrapped in a Sequential, whose `layers_2/` is
a depth readout and is left alone) or below `params/`. Our safetensors files
hold the same keys below `params/`.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.flax import save

from forecasting.shapes import Params

PREFIX = "params/"
WRAPPED = "params/layers_0/"
READOUT = "params/layers_2/"


def load_weights(path: Path, expected: Params) -> Params:
  """Reads a 4DS checkpoint.

  Args:
    path: `.npz` or `.safetensors`.
    expected: parameters or shapes of the network, as a tree.

  Returns:
    Parameters with the structure of `expected`, float32.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is neither format, or a key is missing, left over or
      has another shape; all such keys are named.
  """
  if not path.is_file():
    raise FileNotFoundError(
      f"backbone.checkpoint: no file {path}; expected .npz or .safetensors"
    )
  readers: Mapping[str, Callable[[Path], Any]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
  }
  if path.suffix not in readers:
    raise ValueError(
      f"backbone.checkpoint: {path} ends in {path.suffix!r}; expected .npz or"
      " .safetensors"
    )
  flat = flatten_dict(expected, sep="/")
  try:
    return _collect(readers[path.suffix](path), flat, path)
  except (zipfile.BadZipFile, SafetensorError, EOFError) as error:
    raise ValueError(
      f"backbone.checkpoint: {path} is truncated or not a {path.suffix} file"
      f" ({error}); download it again"
    ) from error


def _read_npz(path: Path) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
  """Yields keys and readers of arrays, so that a 14 GB file is read once."""
  with np.load(path, allow_pickle=False) as arrays:
    for name in arrays.files:
      yield name, lambda name=name: arrays[name]


def _read_safetensors(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
  """Yields keys and readers of arrays."""
  with safe_open(path, framework="flax") as arrays:
    for name in arrays.keys():  # noqa: SIM118 (not a mapping)
      yield name, lambda name=name: arrays.get_tensor(name)


def _collect(
  entries: Iterator[tuple[str, Callable[[], Any]]],
  expected: Mapping[str, Any],
  path: Path,
) -> Params:
  """Renames keys, checks them against the network's and reads the arrays."""
  found, extra, misshapen = {}, [], []
  for name, read in entries:
    if name.startswith(READOUT):
      continue
    prefix = WRAPPED if name.startswith(WRAPPED) else PREFIX
    key = name.removeprefix(prefix)
    if not name.startswith(PREFIX) or key not in expected or key in found:
      extra.append(name)
      continue
    array = read()
    found[key] = jnp.asarray(array, jnp.float32)
    if array.shape != expected[key].shape:
      misshapen.append(f"{name} {array.shape}, not {expected[key].shape}")
  missing = sorted(set(expected) - set(found))
  problems = [
    f"{what}: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
    for what, names in (
      ("missing", missing),
      ("not used by this backbone", extra),
      ("misshapen", misshapen),
    )
    if names
  ]
  if problems:
    raise ValueError(
      f"backbone.checkpoint: {path} does not fit the backbone; "
      f"{'; '.join(problems)}. Choose the backbone.name that it was made for."
    )
  return unflatten_dict(found, sep="/")


def save_weights(
  path: Path, params: Params, notes: Mapping[str, Any], dtype: Any
) -> None:
  """Writes parameters under the public names.

  Args:
    path: of the safetensors file; replaced atomically.
    params: of a 4DS encoder.
    notes: stored in the file as JSON: how the weights were made.
    dtype: of the stored arrays.
  """
  arrays = {
    PREFIX + name: jnp.asarray(array, dtype)
    for name, array in flatten_dict(params, sep="/").items()
  }
  metadata = {"notes": json.dumps(notes, sort_keys=True)}
  partial = path.with_name(path.name + ".tmp")
  partial.write_bytes(save(arrays, metadata))
  partial.replace(path)


def file_digest(path: Path) -> str:
  """Returns the sha256 of a file, in hexadecimal."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
