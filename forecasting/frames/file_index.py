"""What a pass over a file found, remembered under the data root.

Offsets, names and small labels of large files are collected once; a file that
was touched since, or a memory that is damaged, is looked at anew. Everything
here may be deleted at any time.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from forecasting.frames import windows


def remember(
  root: Path,
  kind: str,
  files: Sequence[Path],
  version: object,
  build: Callable[[], Any],
) -> Any:
  """Returns what `build` found, building only if that is not known.

  Args:
    root: Folder of the data; the memory is below `<root>/index/<kind>`.
    kind: Of index.
    files: What it describes.
    version: Changes when `build` would find something else in the same files.
    build: Looks at the files; returns what JSON can hold.

  Returns:
    The index.

  Raises:
    OSError: If a file cannot be read or `root` not be written.
    Whatever `build` raises; nothing is remembered then.
  """
  identity = [kind, version]
  for file in files:
    state = file.stat()
    identity += [str(file.resolve()), state.st_size, state.st_mtime_ns]
  key = hashlib.blake2b(json.dumps(identity).encode(), digest_size=8)
  path = root / "index" / kind / f"{files[0].stem[:80]}-{key.hexdigest()}.json"
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    pass
  index = build()
  windows.write_atomically(path, json.dumps(index).encode())
  return index
