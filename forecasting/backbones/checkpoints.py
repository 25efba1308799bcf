"""The file formats of official checkpoints, read array by array.

| what                 | who                                                |
|----------------------|----------------------------------------------------|
| `.npz`               | 4DS, SigLIP (big_vision), VideoPrism               |
| `.safetensors`       | our own, transformers' `save_pretrained`           |
| `.pth`, `.pth.tar`   | DINOv2, V-JEPA, VideoMAE, VideoMAEv2, NExT-Vid     |
| a folder (Orbax)     | our own training, W.A.L.T. by a user               |

Nothing is unpickled but plain containers (`torch_files.py`), and no array is
read before it is asked for: 4DS-e is 14 GB.
"""

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

# Names and functions that read the array of that name.
Entries = Iterator[tuple[str, Callable[[], np.ndarray]]]


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
    elsewhere, and a function that reads the array.

  Raises:
    CheckpointError: unknown format, or damaged.
  """
  reader = next(
    (read for suffix, read in _READERS.items() if path.name.endswith(suffix)),
    None,
  )
  if reader is None:
    raise CheckpointError(
      f"{path} is of no known format; expected {', '.join(_READERS)}"
    )
  try:
    yield reader(path, containers)
  except (zipfile.BadZipFile, SafetensorError, EOFError) as error:
    raise CheckpointError(
      f"{path} is truncated or not a {path.suffix} file ({error}); download it"
      " again"
    ) from error


def _read_npz(path: Path, containers: Sequence[str]) -> Entries:
  """Yields the members of a zip of arrays."""
  del containers
  with np.load(path, allow_pickle=False) as arrays:
    for name in arrays.files:
      yield name, lambda name=name: _plain(arrays[name])


def _plain(array: np.ndarray) -> np.ndarray:
  """Returns bfloat16, which NumPy stores as 2 raw bytes, as what it is."""
  is_raw = array.dtype.kind == "V" and array.dtype.itemsize == 2
  return array.view(ml_dtypes.bfloat16) if is_raw else array


def _read_safetensors(path: Path, containers: Sequence[str]) -> Entries:
  """Yields the arrays of a safetensors file."""
  del containers
  with safe_open(path, framework="flax") as arrays:
    for name in arrays.keys():  # noqa: SIM118 (not a mapping)
      yield name, lambda name=name: np.asarray(arrays.get_tensor(name))


_READERS: dict[str, Callable[[Path, Sequence[str]], Entries]] = {
  ".npz": _read_npz,
  ".safetensors": _read_safetensors,
}
