"""Writes and reads a store: ArrayRecord shards beside `manifest.json`.

Every shard is written to `<name>.tmp`, flushed to disk and renamed, and gets
a sidecar `<name>.json` with its checksum. The manifest comes last. So a run
that is killed at any time leaves whole shards only, and the same command
writes the rest; the bytes are the same as without the interruption.

A store can be written from any framework, with numpy arrays and no JAX:

    import numpy as np
    from forecasting.latents import store

    def examples():
      rng = np.random.default_rng(0)
      for i in range(5):
        video = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
        yield {
          "clip_id": f"my_video_{i}",  # unique; seeds the samples
          "seconds": np.arange(16, dtype=np.float32) / 12.5,
          "video": video,  # labels: any of frames/clip.py, or none
          # Your encoder, last step LayerNorm over channels without affine:
          # the 4 context frames ALONE, then all 16. Slots t, rows, columns, C.
          "context": rng.normal(size=(2, 4, 4, 8)),
          "clip": rng.normal(size=(8, 4, 4, 8)),
        }

    store.write_examples(
      "latents/train", examples(), backbone="mine", dataset="my_videos",
      split="train", context_mode="crop_pos", num_context=4,
    )
    latents = store.LatentStore("latents/train")
    print(len(latents), latents[0]["clip"].shape)
"""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import (
  Callable,
  Collection,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_module

from forecasting.frames.one_writer import one_writer
from forecasting.latents import manifest as manifest_lib
from forecasting.latents import records
from forecasting.latents import shards as shard_lib
from forecasting.latents.manifest import Manifest, Shard
from forecasting.latents.shards import StoreError, shard_name

_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"

Example = Mapping[str, Any]


class LatentStore:
  """Random access to the examples of a store.

  Attributes:
    path: its folder.
    manifest: what made it.
  """

  def __init__(
    self,
    path: Path | str,
    expected: Mapping[str, Any] | None = None,
    verify: bool = False,
    num_clips: int | None = None,
    first_clip: int = 0,
  ):
    """Opens a store and checks it.

    Args:
      path: its folder.
      expected: manifest fields that have to agree, see `Manifest.verify`.
      verify: also read every file and compare checksums; by default only
        sizes are compared.
      num_clips: read only so many; None is all that follow.
      first_clip: place of the first one that is read.

    Raises:
      ManifestError: no manifest, or not the one expected.
      StoreError: a file that is missing, truncated or corrupt, or too few
        clips.
    """
    self.path = Path(path)
    self.manifest = manifest_lib.load(self.path)
    if expected is not None:
      self.manifest.verify(expected, self.path)
    for shard in self.manifest.shards:
      shard_lib.check_shard(self.path / shard.name, shard, checksum=verify)
    stored = self.manifest.num_clips
    stop = stored if num_clips is None else first_clip + num_clips
    if stop > stored:
      raise StoreError(
        f"{self.path} has {stored} clips, expected {stop}. "
        "`python -m forecasting.extract` adds the others."
      )
    self._places = range(first_clip, stop)
    self._readers: dict[int, array_record_module.ArrayRecordReader] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Returns every tensor of one example, latents as float32."""
    return self.read(index)

  def read(
    self, index: int, keys: Collection[str] | None = None
  ) -> dict[str, np.ndarray]:
    """Reads one example.

    Args:
      index: of the example.
      keys: tensors wanted; the others are not decoded. None is all.

    Returns:
      Name to array: `context` [tc h w C] and `clip` [t h w C] float32,
      `example_id` uint32, `clip_id`, `seconds` and the labels.

    Raises:
      IndexError: no such example.
      KeyError: no such tensor.
      StoreError: a record that cannot be read.
    """
    shard, row = divmod(self._places[index], self.manifest.clips_per_shard)
    try:
      (record,) = self._reader(shard).read([row])
      return records.unpack(record, self.manifest.dtype, keys)
    except (RuntimeError, ValueError) as error:
      file = self.path / self.manifest.shards[shard].name
      raise StoreError(
        f"{file}: record {row} cannot be read ({error}). {shard_lib.mend(file)}"
      ) from error

  def _reader(self, shard: int) -> array_record_module.ArrayRecordReader:
    with self._lock:
      if shard not in self._readers:
        self._readers[shard] = array_record_module.ArrayRecordReader(
          str(self.path / self.manifest.shards[shard].name),
          _READER_OPTIONS,
          file_reader_buffer_size=1 << 16,
        )
      return self._readers[shard]


@contextlib.contextmanager
def exclusive(
  path: Path,
  host: tuple[int, int] = (0, 1),
  barrier: Callable[[], None] | None = None,
) -> Iterator[None]:
  """Keeps other runs from writing a store, and waits while one does.

  The first host holds the lock for all of its run; the others begin when it has
  it. Hosts with a lock each could wait for another run's in a circle.

  Args:
    path: folder of the store; made if needed.
    host: which host this is, of how many.
    barrier: returns when all hosts have called it; needed with several.

  Raises:
    StoreError: the folder is not writable.
  """
  with contextlib.ExitStack() as stack:
    if host[0] == 0:
      try:
        stack.enter_context(one_writer(path, "latents", "config.latents.root"))
      except OSError as error:
        raise StoreError(str(error)) from error
    if barrier is not None:
      barrier()
    yield


def write_store(
  path: Path | str,
  manifest: Manifest,
  examples: Callable[[Sequence[range]], Iterable[Example]],
  *,
  host: tuple[int, int] = (0, 1),
  barrier: Callable[[], None] | None = None,
) -> LatentStore:
  """Writes what is missing of a store, which runs may share if `exclusive`.

  Args:
    path: folder on a file system that all hosts share; made if needed.
    manifest: describes the whole store; its `shards` are filled in here.
    examples: given the clip indices of each shard to write, yields their
      examples in that order. Not called if nothing is missing.
    host: which host this is, of how many; host k writes shards k, k + n, ...
    barrier: returns when all hosts have called it; needed with several.

  Returns:
    The finished store.

  Raises:
    StoreError: disk full or folder not writable.
    ValueError: an example that does not fit the manifest, or no clips.
  """
  path, (rank, hosts) = Path(path), host
  if manifest.num_clips < 1:
    raise ValueError(
      f"no clips to write to {path}: the source is empty, having skipped "
      f"{dict(manifest.skipped)}"
    )
  with shard_lib.reporting(path):
    path.mkdir(parents=True, exist_ok=True)
  missing = [
    i
    for i in range(rank, num_shards(manifest), hosts)
    if _finished(path, manifest, i, checksum=True) is None
  ]
  if missing:
    with shard_lib.reporting(path):
      (path / manifest_lib.FILE_NAME).unlink(missing_ok=True)
    rows = [shard_rows(manifest, i) for i in missing]
    stream = iter(examples(rows))
    for i, row in zip(missing, rows):
      packed = (
        records.pack(example, manifest)
        for example in itertools.islice(stream, len(row))
      )
      shard_lib.write_shard(
        path / shard_name(i), packed, len(row), manifest.identity
      )
  if barrier is not None:
    barrier()
  if rank == 0:
    _finish(path, manifest)
  if barrier is not None:
    barrier()
  return LatentStore(path)


def write_examples(
  path: Path | str,
  examples: Iterable[Example],
  *,
  backbone: str,
  dataset: str,
  split: str,
  context_mode: str,
  num_context: int,
  dtype: str = "bfloat16",
  clips_per_shard: int = 128,
  **about: Any,
) -> LatentStore:
  """Writes a store from examples made anywhere; see the module docstring.

  Args:
    path: folder; a store that is already there is replaced.
    examples: dicts with `context`, `clip`, `seconds`, `clip_id` and labels.
    backbone: name of the encoder.
    dataset: name of the data.
    split: 'train' or 'eval'.
    context_mode: how the context was encoded alone, 'crop_pos' (as a short
      clip) or 'pad_last' (its last frame repeated); 'leaky_full_clip' if it
      was not, which marks everything made from it.
    num_context: frames of the context.
    dtype: storage type of the latents.
    clips_per_shard: records per file.
    **about: further fields of `Manifest`.

  Returns:
    The finished store.

  Raises:
    StoreError: disk full or folder not writable.
    ValueError: no examples, or one that differs in shape or tensors.
  """
  path, stream = Path(path), iter(examples)
  first = next(stream, None)
  if first is None:
    raise ValueError(f"no examples to write to {path}")
  shapes = {name: np.shape(first[name]) for name in records.LATENTS}
  num_frames = len(first["seconds"])
  defaults = {
    "weights_digest": "external",
    "layer": "external",
    "fingerprint": "external",
    "preprocessing": "external",
    "resolution": np.shape(first["video"])[1] if "video" in first else 0,
    "tubelet": num_frames // shapes["clip"][0],
  }
  manifest = Manifest(
    backbone=backbone,
    dataset=dataset,
    split=split,
    context_mode=context_mode,
    num_context=num_context,
    num_frames=num_frames,
    dtype=dtype,
    clips_per_shard=clips_per_shard,
    context_shape=shapes["context"],
    clip_shape=shapes["clip"],
    labels=label_names(first),
    num_clips=0,
    **{**defaults, **about},
  )
  with shard_lib.reporting(path):
    path.mkdir(parents=True, exist_ok=True)
    (path / manifest_lib.FILE_NAME).unlink(missing_ok=True)
  stream, shards = itertools.chain([first], stream), []
  while batch := list(itertools.islice(stream, clips_per_shard)):
    packed = (records.pack(example, manifest) for example in batch)
    file = path / shard_name(len(shards))
    shards.append(
      shard_lib.write_shard(file, packed, len(batch), manifest.identity)
    )
  manifest = dataclasses.replace(
    manifest,
    shards=tuple(shards),
    num_clips=sum(shard.num_clips for shard in shards),
  )
  _save(path, manifest)
  return LatentStore(path)


def label_names(example: Example) -> tuple[str, ...]:
  """Returns the tensors of an example that stand beside the latents."""
  return tuple(sorted(set(example) - {*records.LATENTS, "clip_id"}))


def num_shards(manifest: Manifest) -> int:
  """Returns the number of files of a store."""
  return -(-manifest.num_clips // manifest.clips_per_shard)


def num_missing(path: Path, manifest: Manifest) -> int:
  """Returns how many clips of a store have no whole file yet, by its size."""
  return sum(
    len(shard_rows(manifest, index))
    for index in range(num_shards(manifest))
    if _finished(path, manifest, index, checksum=False) is None
  )


def shard_rows(manifest: Manifest, index: int) -> range:
  """Returns the clips of one shard."""
  start = index * manifest.clips_per_shard
  return range(start, min(start + manifest.clips_per_shard, manifest.num_clips))


def _finished(
  path: Path, manifest: Manifest, index: int, checksum: bool
) -> Shard | None:
  num_clips = len(shard_rows(manifest, index))
  return shard_lib.finished_shard(
    path / shard_name(index), num_clips, manifest.identity, checksum
  )


def _finish(path: Path, manifest: Manifest) -> None:
  """Writes the manifest once every shard is there, and clears leftovers."""
  shards = []
  for i in range(num_shards(manifest)):
    shard = _finished(path, manifest, i, checksum=False)
    if shard is None:
      raise StoreError(
        f"{path / shard_name(i)} is missing although all hosts have finished. "
        "Is the folder shared by all hosts? Run the same command again."
      )
    shards.append(shard)
  _save(path, dataclasses.replace(manifest, shards=tuple(shards)))


def _save(path: Path, manifest: Manifest) -> None:
  """Writes the manifest and removes shards of an earlier, longer store."""
  with shard_lib.reporting(path):
    manifest.save(path)
    names = {shard.name for shard in manifest.shards}
    for file in path.glob("shard-*.array_record*"):
      if file.name.split(".")[0] + ".array_record" not in names:
        file.unlink()
