"""One file of a store: written whole or not at all, checked on reading."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from array_record.python import array_record_module

from forecasting.latents import manifest as manifest_lib
from forecasting.latents.manifest import Shard

# One record per chunk for random access. Latents hardly compress: reading
# them uncompressed is 4 times faster and takes an eighth more space.
_WRITER_OPTIONS = "group_size:1,uncompressed"


class StoreError(RuntimeError):
  """A store that cannot be written, or whose files are damaged."""


def shard_name(index: int) -> str:
  """Returns the file name of one shard."""
  return f"shard-{index:05d}.array_record"


def write_shard(
  file: Path, packed: Iterable[bytes], num_clips: int, identity: str
) -> Shard:
  """Writes one shard and its sidecar; nothing is left behind on failure.

  Args:
    file: where; `<file>.tmp` is used on the way.
    packed: the records.
    num_clips: how many are meant to come.
    identity: of the manifest, kept in the sidecar.

  Returns:
    What the manifest says about the file.

  Raises:
    StoreError: disk full or folder not writable.
    ValueError: fewer records than announced.
  """
  temporary = file.with_name(file.name + ".tmp")
  sidecar = _sidecar(file)
  written = 0
  try:
    with reporting(file):
      # The sidecar vouches for the shard, so it goes first and comes last.
      sidecar.unlink(missing_ok=True)
      writer = array_record_module.ArrayRecordWriter(
        str(temporary), _WRITER_OPTIONS
      )
    try:
      for record in packed:
        with reporting(file):
          writer.write(record)
        written += 1
    except BaseException:
      with contextlib.suppress(RuntimeError):
        writer.close()
      raise
    with reporting(file):
      writer.close()
    if written != num_clips:
      raise ValueError(f"{file}: {written} examples came, {num_clips} wanted")
    with reporting(file):
      _sync(temporary)
      shard = Shard(
        file.name, num_clips, temporary.stat().st_size, _checksum(temporary)
      )
      os.replace(temporary, file)
      _sync(file.parent)
      about = {**dataclasses.asdict(shard), "identity": identity}
      manifest_lib.write_atomically(sidecar, json.dumps(about).encode())
  except BaseException:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    raise
  return shard


def finished_shard(
  file: Path, num_clips: int, identity: str, checksum: bool
) -> Shard | None:
  """Returns a shard that is whole and of this manifest, else None.

  Args:
    file: of the shard.
    num_clips: that it should hold.
    identity: of the manifest.
    checksum: whether to read the file; otherwise only its size is compared.
  """
  try:
    about = json.loads(_sidecar(file).read_text())
    if about.pop("identity") != identity:
      return None
    shard = Shard(**about)
    if shard.num_clips != num_clips:
      return None
    check_shard(file, shard, checksum)
  except (OSError, ValueError, KeyError, TypeError, StoreError):
    return None
  return shard


def check_shard(file: Path, shard: Shard, checksum: bool) -> None:
  """Compares a file with what the manifest says about it.

  Args:
    file: of the shard.
    shard: what the manifest says.
    checksum: whether to read the file; otherwise only its size is compared.

  Raises:
    StoreError: missing, truncated or changed.
  """
  found = file.stat().st_size if file.exists() else None
  if found != shard.num_bytes:
    state = "is missing" if found is None else f"has {found} bytes"
    raise StoreError(
      f"{file} {state}, expected {shard.num_bytes}. {mend(file)}"
    )
  if checksum and (actual := _checksum(file)) != shard.checksum:
    raise StoreError(
      f"{file} has checksum {actual}, expected {shard.checksum}. {mend(file)}"
    )


def mend(file: Path) -> str:
  """Returns the sentence that says how to replace a damaged shard."""
  return (
    f"Mend: `rm -f {file}`, then run `python -m forecasting.extract` with the "
    "config that made the store; it writes only what is missing."
  )


@contextlib.contextmanager
def reporting(path: Path) -> Iterator[None]:
  """Turns a failed write into one message that says what to do."""
  try:
    yield
  except (OSError, RuntimeError) as error:
    raise StoreError(
      f"cannot write {path}: {error}. Free some space or choose another "
      "latents.root, and run the same command again: shards already written "
      "are kept."
    ) from error


def _sidecar(file: Path) -> Path:
  return file.with_name(file.name + ".json")


def _checksum(file: Path) -> str:
  with open(file, "rb") as stream:
    digest = hashlib.file_digest(
      stream, lambda: hashlib.blake2b(digest_size=16)
    )
  return digest.hexdigest()


def _sync(path: Path) -> None:
  """Flushes a file, or the names in a folder, to disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
