"""Batches of stored latents and labels for training and evaluation.

Batches are dicts of stacked numpy arrays. Which examples form a batch depends
on the seed and the step alone: with several processes, each reads its rows of
the same global batch.
"""

from collections.abc import Collection, Sequence

import grain
import jax
import numpy as np

from forecasting.latents.store import LatentStore

NUM_THREADS = 2
NUM_PREFETCHED = 4  # batches
_ENDLESS = 2**62  # examples; grain's own endless length overflows in `batch`


class _Selection:
  """A store that reads only some tensors, as grain wants its sources."""

  def __init__(self, store: LatentStore, keys: Collection[str] | None):
    self._store = store
    self._keys = batch_keys(store, keys)

  def __len__(self) -> int:
    return len(self._store)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    return self._store.read(int(index), self._keys)

  def __repr__(self) -> str:
    # Part of grain's checkpoints; must not hold an address in memory.
    return f"latents({self._store.manifest.digest}, {','.join(self._keys)})"


def batch_keys(
  store: LatentStore, keys: Collection[str] | None = None
) -> tuple[str, ...]:
  """Returns the tensors of a batch: no strings, and always `example_id`.

  Args:
    store: to read.
    keys: tensors wanted; None is all.
  """
  if keys is None:
    keys = ("context", "clip", *store.manifest.labels)
  return tuple(sorted({*keys, "example_id"} - {"clip_id"}))


def train_batches(
  store: LatentStore,
  batch_size: int,
  seed: int,
  keys: Collection[str] | None = None,
  process: tuple[int, int] | None = None,
) -> grain.DatasetIterator:
  """Iterates for ever over shuffled examples.

  Args:
    store: to read.
    batch_size: examples of one step, over all processes.
    seed: of the order; every epoch has another.
    keys: tensors wanted; the others are not read.
    process: index of this process and their number; None asks JAX.

  Returns:
    A grain iterator; `get_state` and `set_state` continue it exactly.

  Raises:
    ValueError: a batch that the processes cannot share equally.
  """
  index, count = process or (jax.process_index(), jax.process_count())
  local = _local_size(batch_size, count)
  # Repeated before it is divided: otherwise rows would depend on the number
  # of processes from the second epoch on.
  examples = (
    grain.MapDataset.source(_Selection(store, keys))
    .shuffle(seed=seed % 2**32)
    .repeat()[index:_ENDLESS:count]
    .batch(local)  # before the threads, so that they stack too
  )
  options = grain.ReadOptions(
    num_threads=NUM_THREADS, prefetch_buffer_size=NUM_PREFETCHED
  )
  return iter(examples.to_iter_dataset(options))


class EvalBatches:
  """Examples of a store in order, in batches of one size.

  The last batch repeats the last example. Batches hold, besides the tensors,
  `index` int32 [B], the example's place in the store, and `mask` bool [B],
  False for repeated examples.
  """

  def __init__(
    self,
    store: LatentStore,
    batch_size: int,
    keys: Collection[str] | None = None,
    rows: Sequence[int] | None = None,
  ):
    """Reads nothing yet.

    Args:
      store: to read.
      batch_size: examples of one batch.
      keys: tensors wanted; the others are not read.
      rows: places of the examples in the store; None is all.

    Raises:
      ValueError: no positive batch size.
    """
    self._size = _local_size(batch_size, 1)
    self._store = _Selection(store, keys)
    self._rows = np.arange(len(store)) if rows is None else np.asarray(rows)

  def __len__(self) -> int:
    return -(-len(self._rows) // self._size)

  def __getitem__(self, batch: int) -> dict[str, np.ndarray]:
    places = range(len(self))[batch] * self._size + np.arange(self._size)
    is_new = places < len(self._rows)
    kept = self._rows[np.where(is_new, places, -1)].astype(np.int32)
    stacked = _stack([self._store[int(i)] for i in kept])
    return stacked | {"index": kept, "mask": is_new}


def evenly_spread(store: LatentStore, number: int) -> list[int]:
  """Returns the places of so many examples, or of all if there are fewer.

  Neighbors may be windows of one recording.
  """
  number = min(len(store), number)
  return np.linspace(0, len(store) - 1, number).round().astype(int).tolist()


def _stack(
  examples: Sequence[dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  return {key: np.stack([e[key] for e in examples]) for key in examples[0]}


def _local_size(batch_size: int, count: int) -> int:
  if batch_size < 1 or batch_size % count:
    raise ValueError(
      f"batch_size {batch_size} has to be a positive multiple of the "
      f"{count} processes"
    )
  return batch_size // count
