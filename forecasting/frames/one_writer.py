"""One writer at a time in a folder that runs share."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def one_writer(folder: Path, what: str) -> Iterator[None]:
  """Makes a folder and holds it; another process waits here for its turn.

  Two runs must not write the same `.tmp`; the second one then finds the files
  of the first. A killed run frees its lock.

  Args:
    folder: to write in.
    what: what is written there, for the error.

  Raises:
    OSError: the folder cannot be written.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("w")
  except OSError as error:
    raise OSError(
      f"cannot write {what} to {folder}: {error}; choose another place with "
      "config.data.root"
    ) from error
  with lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield
