"""Generated clips on disk, in shards that are complete or absent.

A shard `clips-00000-00064.arrayrecord` holds clips 0 to 63. It is written
under `.tmp`, checked, synced and renamed, and a shard that exists is skipped.
So a run may be killed at any moment: running it again ends with the same
bytes. Clips are made by grain's worker processes, and a larger data set keeps
the full shards of a smaller one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import grain
from absl import flags
from array_record.python.array_record_module import (
  ArrayRecordReader,
  ArrayRecordWriter,
)
from tqdm import tqdm

from forecasting.frames.clip import Clip, decode_clip, encode_clip
from forecasting.frames.one_writer import one_writer

CLIPS_PER_SHARD = 64
# Fewer are made before a process has begun, which imports for seconds.
CLIPS_WORTH_WORKERS = 64

_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


@dataclass(frozen=True)
class Shard:
  """Clips `start` to `stop` - 1 of a data set, in one file."""

  path: Path
  start: int
  stop: int

  def __len__(self) -> int:
    return self.stop - self.start


def plan_shards(folder: Path, num_clips: int) -> list[Shard]:
  """Lists the files that hold a data set.

  Args:
    folder: where they are or will be.
    num_clips: size of the data set.

  Returns:
    The shards in order.
  """
  shards = []
  for start in range(0, num_clips, CLIPS_PER_SHARD):
    stop = min(start + CLIPS_PER_SHARD, num_clips)
    name = f"clips-{start:05d}-{stop:05d}.arrayrecord"
    shards.append(Shard(folder / name, start, stop))
  return shards


def fill(
  folder: Path,
  num_clips: int,
  make_clip: Callable[[int], Clip],
  workers: int,
  title: str,
) -> None:
  """Generates the clips that are not on disk yet.

  Args:
    folder: where the shards go; made if missing.
    num_clips: size of the data set.
    make_clip: makes the clip of an index; picklable if `workers` > 0.
    workers: processes; 0 generates in this one, as do a few clips always.
    title: for the progress bar.

  Raises:
    OSError: if the folder cannot be written or the disk is full.
  """
  shards = plan_shards(folder, num_clips)
  if all(shard.path.exists() for shard in shards):
    return
  with one_writer(folder, "clips"):
    missing = [shard for shard in shards if not shard.path.exists()]
    _fill_shards(missing, make_clip, workers, title)


def _fill_shards(
  missing: list[Shard],
  make_clip: Callable[[int], Clip],
  workers: int,
  title: str,
) -> None:
  """Generates whole shards, in order."""
  indices = [i for shard in missing for i in range(shard.start, shard.stop)]
  records = _generate(indices, make_clip, workers)
  try:
    with tqdm(total=len(indices), desc=title, unit="clip") as bar:
      for shard in missing:
        _write_shard(shard, records, bar)
  finally:
    records.close()  # ends the workers, also after an error


@dataclass(frozen=True)
class _MakeRecord:
  """Index to serialized clip, in whichever process."""

  make_clip: Callable[[int], Clip]

  def __call__(self, index: int) -> bytes:
    return encode_clip(self.make_clip(index))


def _generate(
  indices: list[int], make_clip: Callable[[int], Clip], workers: int
) -> grain.DatasetIterator:
  """Serialized clips in the order of their indices."""
  dataset = (
    grain.MapDataset.source(indices)
    .map(_MakeRecord(make_clip))
    # Threads would only fight for the interpreter lock.
    .to_iter_dataset(grain.ReadOptions(num_threads=0))
  )
  workers = min(workers, len(indices))
  if workers > 0 and len(indices) >= CLIPS_WORTH_WORKERS:
    if not flags.FLAGS.is_parsed():
      # Grain reads its flags, which only absl's own binaries parse.
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=4
      )
    )
  return iter(dataset)


def _write_shard(shard: Shard, records: Iterator[bytes], bar: tqdm) -> None:
  """Writes one shard under `.tmp` and gives it its name when complete."""
  partial = shard.path.with_name(shard.path.name + ".tmp")
  with _naming(shard.path):
    writer = ArrayRecordWriter(str(partial), "group_size:1")
  try:
    for _ in range(len(shard)):
      record = next(records)  # its own errors pass unchanged
      with _naming(shard.path):
        writer.write(record)
      bar.update()
    with _naming(shard.path):
      writer.close()
      # A full disk does not always raise above; a short file shows here.
      _open(partial, len(shard)).close()
      with partial.open("rb") as file:
        os.fsync(file.fileno())
      partial.replace(shard.path)
  except BaseException:
    with suppress(RuntimeError):
      writer.close()
    partial.unlink(missing_ok=True)
    raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
  """Turns whatever writing raises into one error that names the file."""
  try:
    yield
  except (OSError, RuntimeError, CorruptShardError) as error:
    raise OSError(
      f"cannot write {path}: {error}; free disk space or choose another "
      "place with config.data.root, then run again: complete shards are kept"
    ) from error


class CorruptShardError(ValueError):
  """A shard on disk is not what it should be."""


def _open(path: Path, count: int) -> ArrayRecordReader:
  """Opens a shard and checks how many records it has."""
  mend = "delete this file and run again: it is generated anew"
  try:
    reader = ArrayRecordReader(str(path), _READER_OPTIONS)
    found = reader.num_records()
    if found != count:
      reader.close()  # a damaged file counts as empty and errs only here
  except (ValueError, RuntimeError, OSError, IndexError) as error:
    raise CorruptShardError(
      f"{path} cannot be read ({error}); {mend}"
    ) from error
  if found != count:
    raise CorruptShardError(
      f"{path} holds {found} clips instead of {count}; {mend}"
    )
  return reader


class ShardReader:
  """Random access to the clips of a filled folder; can be pickled."""

  def __init__(self, folder: Path, num_clips: int):
    """Checks every shard.

    Args:
      folder: where the shards are.
      num_clips: size of the data set.

    Raises:
      CorruptShardError: if a shard is damaged; names the file.
    """
    self._shards = plan_shards(folder, num_clips)
    self._num_clips = num_clips
    self._lock = Lock()
    self._readers: dict[int, ArrayRecordReader] = {}
    for shard in self._shards:
      _open(shard.path, len(shard)).close()

  def __len__(self) -> int:
    return self._num_clips

  def __getitem__(self, index: int) -> Clip:
    if not 0 <= index < self._num_clips:
      raise IndexError(f"clip {index} of {self._num_clips}")
    number, offset = divmod(index, CLIPS_PER_SHARD)
    shard = self._shards[number]
    with self._lock:
      if number not in self._readers:
        self._readers[number] = _open(shard.path, len(shard))
    try:
      return decode_clip(self._readers[number].read([offset])[0])
    except (ValueError, RuntimeError, OSError, IndexError) as error:
      raise CorruptShardError(
        f"{shard.path}: clip {index} cannot be read ({error}); delete this "
        "file and run again: it is generated anew"
      ) from error

  def __getstate__(self) -> dict:
    return {
      key: value
      for key, value in vars(self).items()
      if key not in ("_lock", "_readers")
    }

  def __setstate__(self, state: dict) -> None:
    vars(self).update(state, _lock=Lock(), _readers={})
