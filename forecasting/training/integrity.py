"""Checksums of a checkpoint's files.

They are written into the folder of a checkpoint before it gets its final name,
so that a checkpoint has either all of its files and their checksums or no name
to be found by. Orbax itself takes a flipped bit for a parameter.
"""

import hashlib
import json
import os
from pathlib import Path

FILE_NAME = "checksums.json"


def write_checksums(folder: Path) -> None:
  """Writes `checksums.json` for all files in the folders of a checkpoint.

  Args:
    folder: of the checkpoint.

  Raises:
    OSError: disk full or not writable.
  """
  sums = {name: _checksum(folder / name) for name in _files(folder)}
  with open(folder / FILE_NAME, "w") as file:
    json.dump(sums, file, indent=1)
    file.flush()
    os.fsync(file.fileno())


def find_damage(folder: Path) -> str:
  """Compares the files of a checkpoint with their checksums.

  Args:
    folder: of the checkpoint.

  Returns:
    What is wrong; empty if nothing is, or if the checkpoint was written
    without checksums.
  """
  try:
    sums = json.loads((folder / FILE_NAME).read_text())
  except FileNotFoundError:
    return ""
  except ValueError as error:
    return f"{FILE_NAME} is not JSON: {error}"
  for name, expected in sums.items():
    if not (folder / name).is_file():
      return f"{name} is missing"
    if _checksum(folder / name) != expected:
      return f"{name} has changed since it was written"
  return ""


def _files(folder: Path) -> list[str]:
  """Returns the files in subfolders; Orbax still writes those beside them."""
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.glob("*/**/*")
    if path.is_file()
  )


def _checksum(path: Path) -> str:
  with open(path, "rb") as file:
    digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
  return digest.hexdigest()
