"""Statistics of training latents that only some forecasters ask for.

Beside those of `normalize.py`, from one more pass over the store:

  - mean and deviation of every element of a clip;
  - the damped linear extrapolation of every lead slot j and channel,
    last + f_j (last - slot before), with f_j by least squares, and what it
    leaves unexplained;
  - with `components`, all of these for the latents' first principal components
    instead of their channels, and the basis itself.

Sums are in float64 on the host. The covariance behind the basis is summed up on
the accelerator, a batch of clips at a time, so that neither the latents nor
their products ever are in memory at once.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.latents import normalize
from forecasting.latents.normalize import LatentStats, Moments, StatsAccumulator
from forecasting.latents.store import LatentStore
from forecasting.shapes import Array

_BATCH = 16
_MIN_STD = 1e-6


class Scales(NamedTuple):
  """What a forecaster may need to know of the training latents.

  The first six fields are those of `LatentStats`; C is the number of components
  if there is a basis.

  Attributes:
    element_mean: of every element of a clip.
    element_std: likewise.
    linear_factor: f_j of the extrapolation.
    linear_std: root mean square of what it leaves.
    basis: orthonormal columns, most variance first; D x 0 without components.
    center: of the latents, [D].
    explained: share of the latents' variance that the components hold.
  """

  mean: Float[Array, "C"]
  std: Float[Array, "C"]
  time_mean: Float[Array, "t C"]
  time_std: Float[Array, "t C"]
  residual_mean: Float[Array, "tf C"]
  residual_std: Float[Array, "tf C"]
  element_mean: Float[Array, "t h w C"]
  element_std: Float[Array, "t h w C"]
  linear_factor: Float[Array, "tf C"]
  linear_std: Float[Array, "tf C"]
  basis: Float[Array, "D k"]
  center: Float[Array, "D"]
  explained: Float[Array, ""]


@dataclasses.dataclass
class ScalesAccumulator:
  """Sums over the batches seen so far.

  Attributes:
    stats: those of `LatentStats`.
    elements: moments of every element.
    speed: sum of (last - before)^2 per channel.
    product: sum of (future - last) (last - before) per lead slot and channel.
    change: sum of (future - last)^2, likewise.
    count: latents behind each sum.
  """

  stats: StatsAccumulator = dataclasses.field(default_factory=StatsAccumulator)
  elements: Moments = dataclasses.field(default_factory=Moments)
  speed: np.ndarray | float = 0.0
  product: np.ndarray | float = 0.0
  change: np.ndarray | float = 0.0
  count: int = 0

  def update(
    self,
    context: Float[np.ndarray, "B tc h w C"],
    future: Float[np.ndarray, "B tf h w C"],
  ) -> None:
    """Adds a batch."""
    self.stats = self.stats.update(context, future)
    sequence = np.concatenate([context, future], axis=1)
    self.elements = self.elements.merge(Moments.of(sequence, (0,)))
    last = context[:, -1].astype(np.float64)
    # A context of one slot has no speed: persistence is left.
    speed = last - context[:, max(context.shape[1] - 2, 0)]
    change = future.astype(np.float64) - last[:, None]
    self.speed += np.square(speed).sum((0, 1, 2))
    self.product += np.einsum("bthwc,bhwc->tc", change, speed)
    self.change += np.square(change).sum((0, 2, 3))
    self.count += speed[..., 0].size

  def finish(
    self, basis: np.ndarray, center: np.ndarray, explained: float
  ) -> Scales:
    """Returns the statistics as float32."""
    factor = self.product / np.where(self.speed > 0, self.speed, 1.0)
    left = self.change - factor * (2 * self.product - factor * self.speed)
    std = np.sqrt(np.maximum(left, 0.0) / self.count)
    fields = (
      *self.stats.finish(),
      self.elements.mean,
      self.elements.std(),
      factor,
      np.where(std < _MIN_STD, 1.0, std),
      basis,
      center,
      explained,
    )
    return Scales(*(np.asarray(field, np.float32) for field in fields))


def principal_components(
  latents: Iterator[Float[np.ndarray, "*B C"]], center: Float[Array, "C"]
) -> tuple[Float[np.ndarray, "C C"], Float[np.ndarray, "C"]]:
  """Returns all principal components, and their variances.

  Args:
    latents: batches.
    center: their mean.

  Returns:
    Orthonormal columns by decreasing variance, the largest entry of each
    positive; and the variances. Float64.
  """

  @jax.jit
  def scatter(batch: Array, center: Array) -> jax.Array:
    rows = rearrange(batch, "... C -> (...) C") - center
    return jnp.matmul(rows.T, rows, precision=jax.lax.Precision.HIGHEST)

  total, count = 0.0, 0
  for batch in latents:
    total += np.asarray(scatter(batch, jnp.asarray(center)), np.float64)
    count += batch[..., 0].size
  variances, basis = np.linalg.eigh(total / count)
  variances, basis = variances[::-1], basis[:, ::-1]
  largest = np.abs(basis).argmax(axis=0)
  sign = np.sign(basis[largest, np.arange(len(basis))])
  return basis * sign, np.maximum(variances, 0.0)


def compute_scales(
  store: LatentStore, stats: LatentStats, components: int = 0
) -> Scales:
  """Returns the statistics of a training set, computing them once.

  They are kept beside the manifest, as those of `normalize.compute_stats`.

  Args:
    store: of the training split.
    stats: of the same store.
    components: principal components to keep; 0 keeps the channels.

  Raises:
    ValueError: there are not as many channels.
  """
  channels = len(stats.mean)
  if not 0 <= components <= channels:
    raise ValueError(
      f"forecaster.compress asks for {components} components, but the latents"
      f" have {channels} channels: expected 0 (no compression) to {channels}."
    )
  name = f"scales-{components or 'channels'}.safetensors"
  try:
    return Scales(**normalize.load_tensors(store, len(store), name))
  except (FileNotFoundError, normalize.StatsError, TypeError):
    pass
  basis, explained = np.zeros((channels, 0)), 1.0
  if components:
    sequences = (np.concatenate(parts, axis=1) for parts in _batches(store))
    basis, variances = principal_components(sequences, stats.mean)
    explained = variances[:components].sum() / max(variances.sum(), 1e-30)
    basis = basis[:, :components]
  accumulator = ScalesAccumulator()
  for parts in _batches(store):
    if components:
      parts = [(x.astype(np.float64) - stats.mean) @ basis for x in parts]
    accumulator.update(*parts)
  scales = accumulator.finish(basis, np.asarray(stats.mean), explained)
  normalize.save_tensors(scales._asdict(), store, len(store), name)
  return scales


def _batches(store: LatentStore) -> Iterator[list[np.ndarray]]:
  """Yields contexts and futures of a store."""
  for start in range(0, len(store), _BATCH):
    rows = range(start, min(start + _BATCH, len(store)))
    clips = [store.read(row, ("context", "clip")) for row in rows]
    context = np.stack([clip["context"] for clip in clips])
    future = np.stack([clip["clip"] for clip in clips])[:, context.shape[1] :]
    yield [context, future]
