"""What is remembered of the files of a data set under the data root.

Walking through a download takes long and gives little: offsets, times, which
frames are damaged. One small file of arrays for each file read keeps it. A
file that is touched is looked at anew; a memory that is lost or damaged is
only time lost.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from forecasting.frames import windows

_END_BYTES = 2**16


def identify(name: str, path: Path) -> tuple[str, str]:
  """Hashes what a file or folder is, and whether it was touched.

  Args:
    name: By which the data set knows it.
    path: A file, or a folder of many.

  Returns:
    A hash that a copy shares, of the name, the size and both ends of the file
    or the names of all files; and one that also tells place and time of
    writing, under which things read from the file are remembered.

  Raises:
    OSError: If it cannot be read.
  """
  digest = hashlib.blake2b(f"{name}\0".encode(), digest_size=12)
  stat = path.stat()
  written = [stat.st_mtime_ns]
  if path.is_dir():
    for folder, folders, files in os.walk(path):
      folders.sort()
      digest.update("\0".join(["", *folders, "", *sorted(files)]).encode())
      written.append(Path(folder).stat().st_mtime_ns)
  else:
    digest.update(f"{stat.st_size}\0".encode())
    with path.open("rb") as stream:
      digest.update(stream.read(_END_BYTES))
      stream.seek(max(0, stat.st_size - _END_BYTES))
      digest.update(stream.read(_END_BYTES))
  identity = digest.hexdigest()
  digest.update(f"{max(written)} {path.resolve()}".encode())
  return identity, digest.hexdigest()


def recall(memo: Path) -> dict[str, np.ndarray]:
  """Returns what a file remembers; nothing if it is missing or damaged."""
  try:
    return safetensors.load(memo.read_bytes())
  except (OSError, SafetensorError):
    return {}


def remember(memo: Path, news: Mapping[str, np.ndarray]) -> None:
  """Adds arrays to what a file remembers.

  Args:
    memo: The file; made with its folder if needed.
    news: Arrays by name; they replace those of the same name.

  Raises:
    OSError: If it cannot be written.
  """
  content = {**recall(memo), **news}
  windows.write_atomically(memo, safetensors.save(content))
