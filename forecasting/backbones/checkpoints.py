"""The file formats of official checkpoints, read array by array.

| what                 | who                                                |
|----------------------|----------------------------------------------------|
| `.npz`               | 4DS, SigLIP (big_vision), VideoPrism               |
| `.safetensors`       | our own, transformers' `save_pretrained`           |
| `.pth`, `.pth.tar`,  | DINOv2, V-JEPA, V-JEPA 2, VideoMAE, VideoMAEv2,    |
| `.pt`, `.bin`        | NExT-Vid                                           |
| a folder (Orbax)     | our own training, W.A.L.T. by a user               |

Nothing in a file is run (`torch_files.py`), and no array is read before it is
asked for (`stored.py`): 4DS-e is 14 GB.
"""

import contextlib
import functools
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from forecasting.backbones.stored import DamagedError, StoredArray
from forecasting.backbones.torch_files import read_torch

# Names and functions that read the array of that name.
Entries = Iterator[tuple[str, Callable[[], np.ndarray]]]

# What the readers of NumPy and the standard library say to damaged files. A
# forged size is refused for lack of memory at the latest.
_DAMAGE = (
  *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
  *(ValueError, LookupError, TypeError, OverflowError, MemoryError),
  *(NotImplementedError, RuntimeError, SyntaxError),
)
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format


class CheckpointError(ValueError):
  """A file that is not a readable checkpoint."""


@contextlib.contextmanager
def open_checkpoint(
  path: Path, containers: Sequence[str] = ()
) -> Iterator[Entries]:
  """Opens a checkpoint for reading.

  Args:
    path: file or folder.
    containers: of `.pth` files: keys under which the weights may lie, best
      first; without any of them the whole file is taken.

  Yields:
    Pairs of a name, nested names joined by '.' in `.pth` files and by '/'
    elsewhere, and a function that reads the array. Both raise CheckpointError
    where the file is damaged.

  Raises:
    CheckpointError: unknown format, or damaged.
  """
  if path.is_dir():
    kind, reader = "an Orbax folder", _read_orbax
  else:
    endings = [suffix for suffix in _READERS if path.name.endswith(suffix)]
    if not endings:
      raise CheckpointError(
        f"{path} is of no known format; expected {', '.join(_READERS)} or a"
        " folder written by Orbax"
      )
    kind, reader = f"a {endings[0]} file", _READERS[endings[0]]
  entries = _guarded(
    f"{path} cannot be read as {kind}", reader(path, containers)
  )
  with contextlib.closing(entries):
    yield entries


def _guarded(complaint: str, entries: Entries) -> Entries:
  """Yields the same; what goes wrong on the way becomes a CheckpointError."""
  guard = functools.partial(_guard, complaint)
  with contextlib.closing(entries):
    while (entry := guard(lambda: next(entries, None))) is not None:
      name, read = entry
      yield name, functools.partial(guard, read)


def _guard(complaint: str, function: Callable[[], Any]) -> Any:
  """Calls a function.

  Raises:
    CheckpointError: the file is damaged.
  """
  try:
    return function()
  except DamagedError as error:
    raise CheckpointError(f"{complaint}: {error}") from error
  except _DAMAGE as error:
    raise CheckpointError(
      f"{complaint}: it is truncated or damaged ({type(error).__name__}:"
      f" {str(error)[:200]}); download it again"
    ) from error


def _read_npz(path: Path, containers: Sequence[str]) -> Entries:
  """Yields the members of a zip of arrays."""
  del containers
  if not zipfile.is_zipfile(path):
    raise DamagedError("it is truncated or no zip archive; download it again")
  with np.load(path, allow_pickle=False) as arrays:
    for name in arrays.files:
      yield name, lambda name=name: _plain(arrays[name])


def _plain(array: np.ndarray) -> np.ndarray:
  """Returns bfloat16, which NumPy stores as 2 raw bytes, as what it is."""
  is_raw = array.dtype.kind == "V" and array.dtype.itemsize == 2
  return array.view(ml_dtypes.bfloat16) if is_raw else array


_SAFETENSORS_DTYPES = {
  "F64": np.float64,
  "F32": np.float32,
  "F16": np.float16,
  "BF16": ml_dtypes.bfloat16,
  "F8_E4M3": ml_dtypes.float8_e4m3fn,
  "F8_E5M2": ml_dtypes.float8_e5m2,
  "I64": np.int64,
  "I32": np.int32,
  "I16": np.int16,
  "I8": np.int8,
  "U64": np.uint64,
  "U32": np.uint32,
  "U16": np.uint16,
  "U8": np.uint8,
  "BOOL": np.bool_,
}


def _read_safetensors(path: Path, containers: Sequence[str]) -> Entries:
  """Yields the arrays of a safetensors file.

  The library would map the file into memory: a second copy of the weights.
  """
  del containers
  with path.open("rb") as file:
    (size,) = struct.unpack("<Q", file.read(8))
    if size > _MAX_HEADER:
      raise DamagedError(f"its header is said to have {size} bytes")
    header = json.loads(file.read(size))
  header.pop("__metadata__", None)
  for name, entry in header.items():
    start, end = entry["data_offsets"]
    dtype = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]])
    shape = tuple(entry["shape"])
    if min((start, *shape)) < 0 or (
      end - start != math.prod(shape) * dtype.itemsize
    ):
      raise DamagedError(f"{name}: its place in the file is not plausible")
    yield name, StoredArray(path, 8 + size + start, dtype, shape).read


def _read_orbax(path: Path, containers: Sequence[str]) -> Entries:
  """Yields the arrays of a folder, whatever devices they were saved from."""
  del containers
  import jax
  import orbax.checkpoint as ocp  # takes a second, and few need it

  folder, handler = (
    _orbax_folder(path).absolute(),
    ocp.PyTreeCheckpointHandler(),
  )
  leaves, structure = jax.tree.flatten_with_path(handler.metadata(folder).tree)
  arguments = structure.unflatten(
    [ocp.RestoreArgs(restore_type=np.ndarray)] * len(leaves)
  )

  def read(index: int) -> np.ndarray:
    only = [ocp.PLACEHOLDER] * len(leaves)
    only[index] = leaves[index][1]
    tree = handler.restore(
      folder,
      args=ocp.args.PyTreeRestore(structure.unflatten(only), arguments),
    )
    return np.asarray(structure.flatten_up_to(tree)[index])

  for index, (keys, _) in enumerate(leaves):
    name = jax.tree_util.keystr(keys, simple=True, separator="/")
    yield name, functools.partial(read, index)


def _orbax_folder(path: Path) -> Path:
  """Returns the folder itself, or its only item.

  Raises:
    DamagedError: there is no item, or there are several.
  """
  if (path / "_METADATA").is_file():
    return path
  items = [p.parent for p in sorted(path.glob("*/_METADATA"))]
  if len(items) == 1:
    return items[0]
  names = ", ".join(item.name for item in items) or "none"
  raise DamagedError(
    "it should hold one tree of arrays written by Orbax (a file _METADATA);"
    f" folders in it that do: {names}"
  )


_READERS: dict[str, Callable[[Path, Sequence[str]], Entries]] = {
  ".npz": _read_npz,
  ".safetensors": _read_safetensors,
  ".pth": read_torch,
  ".pth.tar": read_torch,
  ".pt": read_torch,
  ".bin": read_torch,
}
