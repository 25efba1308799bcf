"""Layer normalization, and statistics of the latents of a training set.

Layer normalization without affine is part of what a latent is (paper 4.3).
The statistics serve the forecaster's own standardization and its residual
target. They are computed in float64 over what the forecaster sees: the
context latents followed by the future slots of the clip latents. Moments of
two sets are merged by (Chan, Golub and LeVeque 1983)

  mean = mean_a + d n_b / n,   M2 = M2_a + M2_b + d^2 n_a n_b / n,    (1)
  d = mean_b - mean_a,  n = n_a + n_b,

so neither order nor batch size matters.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float, Int

from forecasting.backbones.encode import layer_norm
from forecasting.frames.one_writer import one_writer
from forecasting.latents import manifest as manifest_lib
from forecasting.latents.store import LatentStore
from forecasting.shapes import Array

__all__ = (
  "LatentStats",
  "StatsAccumulator",
  "StatsError",
  "compute_stats",
  "layer_norm",
  "load_stats",
  "load_tensors",
  "read_batches",
  "save_tensors",
)

FILE_NAME = "stats.safetensors"
# A channel that never changes is centered and not scaled.
_MIN_STD = 1e-6


class StatsError(ValueError):
  """Statistics that do not belong to the store, or to no training set."""


class LatentStats(NamedTuple):
  """Mean and standard deviation of latents and of their residuals.

  Standard deviations are of the population; where a channel never changes
  they are 1.

  Attributes:
    mean: of each channel, over slots and tokens.
    std: of each channel.
    time_mean: of each slot and channel.
    time_std: of each slot and channel.
    residual_mean: of future slot j minus the last context slot, per j and
      channel.
    residual_std: likewise.
  """

  mean: Float[Array, "C"]
  std: Float[Array, "C"]
  time_mean: Float[Array, "t C"]
  time_std: Float[Array, "t C"]
  residual_mean: Float[Array, "tf C"]
  residual_std: Float[Array, "tf C"]


@dataclasses.dataclass
class Moments:
  """Count, mean and sum of squared deviations, in float64.

  Attributes:
    count: number of values behind each entry.
    mean: per entry.
    m2: sum of squared deviations per entry.
  """

  count: float = 0.0
  mean: np.ndarray | float = 0.0
  m2: np.ndarray | float = 0.0

  @classmethod
  def of(cls, values: np.ndarray, axes: tuple[int, ...]) -> "Moments":
    """Returns the moments of values over some axes, in two passes."""
    values = np.asarray(values, np.float64)
    mean = values.mean(axis=axes, keepdims=True)
    m2 = np.square(values - mean).sum(axis=axes)
    count = np.prod([values.shape[axis] for axis in axes])
    return cls(float(count), mean.squeeze(axes), m2)

  def merge(self, other: "Moments") -> "Moments":
    """Returns the moments of both sets together, equation (1)."""
    count = self.count + other.count
    if not count:
      return Moments()
    delta = other.mean - self.mean
    return Moments(
      count,
      self.mean + delta * (other.count / count),
      self.m2
      + other.m2
      + np.square(delta) * (self.count * other.count / count),
    )

  def pool(self) -> "Moments":
    """Returns the moments over the first axis of the entries as well."""
    total = Moments()
    for mean, m2 in zip(self.mean, self.m2):
      total = total.merge(Moments(self.count, mean, m2))
    return total

  def std(self) -> np.ndarray:
    """Returns the standard deviation, 1 where nothing changes."""
    std = np.sqrt(self.m2 / self.count)
    return np.where(std < _MIN_STD, 1.0, std)


@dataclasses.dataclass(frozen=True)
class StatsAccumulator:
  """Statistics of the batches seen so far.

  Attributes:
    slots: moments per slot and channel.
    residuals: moments per lead slot and channel.
  """

  slots: Moments = dataclasses.field(default_factory=Moments)
  residuals: Moments = dataclasses.field(default_factory=Moments)

  def update(
    self,
    context: Float[np.ndarray, "B tc h w C"],
    future: Float[np.ndarray, "B tf h w C"],
  ) -> "StatsAccumulator":
    """Returns the accumulator with one more batch.

    Args:
      context: latents of the context frames alone.
      future: future slots of the clip latents.
    """
    axes = (0, 2, 3)
    sequence = np.concatenate([context, future], axis=1)
    # In float64, as differences of float32 values would round first.
    residual = future.astype(np.float64) - context[:, -1:]
    batch = StatsAccumulator(
      Moments.of(sequence, axes), Moments.of(residual, axes)
    )
    return self.merge(batch)

  def merge(self, other: "StatsAccumulator") -> "StatsAccumulator":
    """Returns the statistics of both sets together."""
    return StatsAccumulator(
      self.slots.merge(other.slots), self.residuals.merge(other.residuals)
    )

  def finish(self) -> LatentStats:
    """Returns the statistics as float32.

    Raises:
      StatsError: nothing was seen.
    """
    if not self.slots.count:
      raise StatsError("no latents to compute statistics from")
    channels = self.slots.pool()
    values = (
      channels.mean,
      channels.std(),
      self.slots.mean,
      self.slots.std(),
      self.residuals.mean,
      self.residuals.std(),
    )
    return LatentStats(*(np.asarray(v, np.float32) for v in values))


def compute_stats(
  store: LatentStore, max_clips: int | None = None, batch_size: int = 32
) -> LatentStats:
  """Returns the statistics of a training set, computing them once.

  They are kept in `stats.safetensors` beside the manifest.

  Args:
    store: of the training split.
    max_clips: how many clips to use, spread evenly; None is all.
    batch_size: clips in memory at a time; changes nothing else.

  Raises:
    StatsError: the store is not of a training split.
  """
  if store.manifest.split != "train":
    raise StatsError(
      f"{store.path} is of split {store.manifest.split!r}: statistics come "
      "from the training split only, or the evaluation would leak into them"
    )
  num_clips = min(len(store), max_clips or len(store))
  try:
    return load_stats(store, num_clips)
  except (FileNotFoundError, StatsError):
    pass
  rows = np.linspace(0, len(store) - 1, num_clips).round().astype(int)
  accumulator = StatsAccumulator()
  for context, future in read_batches(store, rows, batch_size):
    accumulator = accumulator.update(context, future)
  stats = accumulator.finish()
  save_tensors(stats._asdict(), store, num_clips, FILE_NAME)
  return stats


def read_batches(
  store: LatentStore,
  rows: Int[np.ndarray, "n"] | None = None,
  batch_size: int = 16,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields contexts [B tc h w C] and futures [B tf h w C].

  Args:
    store: to read.
    rows: of which clips; None is all.
    batch_size: clips at a time.
  """
  rows = np.arange(len(store)) if rows is None else rows
  for start in range(0, len(rows), batch_size):
    batch = [
      store.read(int(row), ("context", "clip"))
      for row in rows[start : start + batch_size]
    ]
    context = np.stack([example["context"] for example in batch])
    clip = np.stack([example["clip"] for example in batch])
    yield context, clip[:, context.shape[1] :]


def load_stats(store: LatentStore, num_clips: int) -> LatentStats:
  """Reads the statistics beside a store.

  Args:
    store: they have to belong to.
    num_clips: they have to be computed from.

  Raises:
    FileNotFoundError: there are none.
    StatsError: they belong to other latents.
  """
  return LatentStats(**load_tensors(store, num_clips, FILE_NAME))


def load_tensors(
  store: LatentStore, num_clips: int, file_name: str
) -> dict[str, np.ndarray]:
  """Reads what `save_tensors` wrote; see `load_stats`."""
  file = store.path / file_name
  try:
    with safetensors.safe_open(file, "np") as tensors:
      about = tensors.metadata() or {}
      values = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
  except safetensors.SafetensorError as error:
    raise StatsError(f"{file} cannot be read ({error}); delete it") from error
  expected = _about(store, num_clips)
  for field, value in expected.items():
    if about.get(field) != value:
      raise StatsError(
        f"{file}: {field} is {about.get(field)!r}, the store wants {value!r}; "
        "delete the file and it will be computed again"
      )
  # Files of before there was one have none.
  if about.get("checksum", _checksum(values)) != _checksum(values):
    raise StatsError(
      f"{file} is damaged: its checksum differs; delete it and it will be "
      "computed again"
    )
  return values


def save_tensors(
  values: Mapping[str, np.ndarray],
  store: LatentStore,
  num_clips: int,
  file_name: str,
) -> None:
  """Writes tensors beside a store, with what they were computed from."""
  about = _about(store, num_clips) | {"checksum": _checksum(values)}
  content = safetensors.numpy.save(dict(values), metadata=about)
  file: Path = store.path / file_name
  # A store may be shared, read-only. All processes compute the same.
  if jax.process_index() == 0 and os.access(file.parent, os.W_OK):
    with one_writer(file.parent, file.name, "config.latents.root"):
      manifest_lib.write_atomically(file, content)


def _about(store: LatentStore, num_clips: int) -> dict[str, str]:
  return {
    "fingerprint": store.manifest.fingerprint,
    "store": store.manifest.digest,
    "num_clips": str(num_clips),
  }


def _checksum(values: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.blake2b(digest_size=16)
  for name in sorted(values):
    value = values[name]
    digest.update(f"{name} {value.dtype} {value.shape}".encode())
    digest.update(value.tobytes())
  return digest.hexdigest()
