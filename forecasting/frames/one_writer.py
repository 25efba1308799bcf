"""One writer at a time in a folder that runs share."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def one_writer(
  folder: Path, what: str, field: str = "config.data.root"
) -> Iterator[None]:
  """Makes a folder and holds it; another process waits here for its turn.

  Two runs must not write the same `.tmp`; the second one then finds the files
  of the first. A killed run frees its lock. File systems without locks keep
  nobody waiting.

  Args:
    folder: to write in.
    what: what is written there, for the error.
    field: what chooses the folder, for the error.

  Raises:
    OSError: the folder cannot be written.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("w")
  except OSError as error:
    raise OSError(
      f"cannot write {what} to {folder}: {error}; free disk space or choose "
      f"another place with {field}"
    ) from error
  with lock:
    with contextlib.suppress(OSError):
      fcntl.flock(lock, fcntl.LOCK_EX)
    yield
