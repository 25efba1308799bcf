"""The frames of a folder of videos at one size and rate, decoded once.

One ArrayRecord file per video, one record per frame, and beside it a JSON file
written last: it says how many frames there are, or why there are none. Both
appear under their names only when complete, so a run may be killed at any time
and the next one decodes only what is missing.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from array_record.python import array_record_module
from safetensors import numpy as safetensors

from forecasting.frames import decode, threads
from forecasting.frames.one_writer import one_writer

FORMAT = 1  # A change of what is written makes new files.


class Entry(NamedTuple):
  """One file of the folder and its cached frames.

  Attributes:
    name: Path below the folder.
    identity: Hash of name, size and both ends of the file's bytes.
    records: The cached frames, one record each.
    num_frames: Kept frames; 0 if the file is unusable.
    reason: Why it is unusable, or None.
    detail: What exactly was wrong with it.
  """

  name: str
  identity: str
  records: Path
  num_frames: int
  reason: str | None
  detail: str


def cache_all(
  files: Mapping[str, Path],
  root: Path,
  *,
  fps: float,
  size: int,
  geometry: str,
  workers: int,
) -> list[Entry]:
  """Decodes every file that is not in the cache yet.

  Args:
    files: Video files by name.
    root: Folder of the cache.
    fps: Frames kept per second, at most.
    size: Rows and columns of the frames.
    geometry: 'crop' or 'squeeze'.
    workers: Files decoded at a time.

  Returns:
    The entries of all files, usable or not, in their order.

  Raises:
    OSError: If the cache cannot be written.
  """
  settings = f"{float(fps)} {size} {geometry} {FORMAT}"
  key = hashlib.blake2b(settings.encode(), digest_size=6).hexdigest()
  folder = root / f"videos-{size}px-{key}"

  def cache(item: tuple[str, Path]) -> Entry:
    name, file = item
    frames = decode.read_frames(file, fps, size, geometry == "squeeze")
    return _cache_one(name, file, folder, frames)

  with one_writer(folder, "decoded videos"):
    return threads.map_threads(cache, files.items(), workers, "videos", "file")


def read(entry: Entry, start: int, stop: int) -> list[dict[str, np.ndarray]]:
  """Reads consecutive frames.

  Args:
    entry: The cached file.
    start: First frame.
    stop: One past the last frame.

  Returns:
    For each frame `frame` (uint8 [size, size, 3]), `seconds` since the file's
    first frame, and `index`, its position in the file.

  Raises:
    ValueError: If the cached frames are damaged.
  """
  try:
    records = _reader(entry.records, entry.num_frames).read(start, stop)
  except (RuntimeError, IndexError, ValueError, OSError) as error:
    raise ValueError(
      f"{entry.records} (frames of {entry.name}) is damaged: {error}. Delete "
      "it and run again."
    ) from error
  return [safetensors.load(record) for record in records]


def _identify(name: str, file: Path) -> str:
  """Hash of a file's name, size and first and last 64 KiB."""
  digest = hashlib.blake2b(name.encode(), digest_size=12)
  size = file.stat().st_size
  digest.update(f"\0{size}\0".encode())
  with file.open("rb") as stream:
    digest.update(stream.read(2**16))
    stream.seek(max(0, size - 2**16))
    digest.update(stream.read())
  return digest.hexdigest()


def _cache_one(name: str, file: Path, folder: Path, frames: Iterable) -> Entry:
  """Returns a file's entry, decoding it first if that was not done."""
  try:
    identity = _identify(name, file)
  except OSError as error:
    detail = error.strerror or "cannot be opened"
    return Entry(name, "", folder, 0, decode.UNREADABLE, detail)
  records = folder / f"{identity}.array_record"
  index = records.with_suffix(".json")
  if index.exists():
    known = json.loads(index.read_text())
    complete = known["reason"] or (
      records.exists() and records.stat().st_size == known["bytes"]
    )
    if complete:
      return _entry(name, identity, records, known)
  known = {"file": name, "frames": 0, "bytes": 0, "reason": None, "detail": ""}
  try:
    known["frames"] = _write_records(records, frames)
    known["bytes"] = records.stat().st_size
  except decode.BadVideoError as error:
    known |= {"reason": error.reason, "detail": error.detail}
  temporary = index.with_suffix(".json.tmp")
  temporary.write_text(json.dumps(known))
  _publish(temporary, index)
  return _entry(name, identity, records, known)


def _entry(name: str, identity: str, records: Path, known: dict) -> Entry:
  return Entry(
    name,
    identity,
    records,
    known["frames"],
    known["reason"],
    known["detail"],
  )


def _write_records(path: Path, frames: Iterable) -> int:
  """Writes one record a frame, so that a long video never sits in memory."""
  temporary = path.with_name(path.name + ".tmp")
  count = 0
  try:
    writer = array_record_module.ArrayRecordWriter(
      str(temporary), "group_size:1"
    )
    try:
      for frame, seconds, index in frames:
        record = {
          "frame": np.ascontiguousarray(frame),
          "seconds": np.asarray(seconds, np.float64),
          "index": np.asarray(index, np.int32),
        }
        writer.write(safetensors.save(record))
        count += 1
    finally:
      writer.close()
    # A full disk does not always raise above; a short file shows here.
    _open(temporary, count).close()
    _publish(temporary, path)
  except (OSError, RuntimeError, ValueError) as error:
    temporary.unlink(missing_ok=True)
    raise OSError(
      f"cannot write {path}: {error}; free disk space or choose another place "
      "with config.data.root, then run again: finished files are kept"
    ) from error
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
  return count


def _open(path: Path, count: int):
  """Opens the records of a file and checks that all are there."""
  reader = array_record_module.ArrayRecordReader(
    str(path), "readahead_buffer_size:0,max_parallelism:0"
  )
  found = reader.num_records()
  if found != count:
    reader.close()
    raise ValueError(f"{found} frames instead of {count}")
  return reader


def _publish(temporary: Path, path: Path) -> None:
  """Moves a finished file to its name, once its bytes are on the disk."""
  with temporary.open("rb") as stream:
    os.fsync(stream.fileno())
  temporary.replace(path)


@functools.lru_cache(maxsize=64)
def _reader(path: Path, count: int):
  return _open(path, count)
