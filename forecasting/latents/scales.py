"""Statistics of training latents that only some forecasters ask for.

Beside those of `normalize.py`, from one more pass over the store:

  - mean and deviation of every element of a clip;
  - the damped linear extrapolation of every lead slot j and channel,
    last + f_j (last - slot before), with f_j by least squares, and what it
    leaves unexplained;
  - with a codec, all of these for what it makes of the latents instead of their
    channels.

Sums are in float64 on the host.
"""

import dataclasses
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float

from forecasting.latents import normalize
from forecasting.latents.normalize import Moments, StatsAccumulator
from forecasting.latents.store import LatentStore
from forecasting.shapes import Array

_MIN_STD = 1e-6


@runtime_checkable
class Codec(Protocol):
  """From the channels of a token to fewer components, and back.

  Attributes:
    kind: its word in `config.forecaster.compress`.
    shape: numbers of channels and of components.
  """

  kind: str
  shape: tuple[int, int]

  def encode(self, latents: Float[Array, "*B C"]) -> Float[Array, "*B k"]:
    """Returns components."""
    ...

  def decode(self, components: Float[Array, "*B k"]) -> Float[Array, "*B C"]:
    """Returns latents."""
    ...


class Scales(NamedTuple):
  """What a forecaster may need to know of the training latents.

  The first six fields are those of `LatentStats`; C is the number of components
  if there is a codec.

  Attributes:
    element_mean: of every element of a clip.
    element_std: likewise.
    linear_factor: f_j of the extrapolation.
    linear_std: root mean square of what it leaves.
    codec: whose components these are; None for channels.
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
  codec: Codec | None


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

  def finish(self) -> Scales:
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
    )
    return Scales(*(np.asarray(field, np.float32) for field in fields), None)


def compute_scales(
  store: LatentStore, codec: Codec | None = None, name: str = "channels"
) -> Scales:
  """Returns the statistics of a training set, computing them once.

  They are kept beside the manifest, as those of `normalize.compute_stats`.

  Args:
    store: of the training split.
    codec: makes components of channels; None keeps these.
    name: of the codec, other than that of any other one.
  """
  file = f"scales-{name}.safetensors"
  try:
    fields = normalize.load_tensors(store, len(store), file)
    return Scales(**fields, codec=codec)
  except (FileNotFoundError, normalize.StatsError, TypeError):
    pass
  accumulator = ScalesAccumulator()
  encode = jax.jit(codec.encode) if codec else np.asarray
  for parts in normalize.read_batches(store):
    accumulator.update(*(np.asarray(encode(part)) for part in parts))
  scales = accumulator.finish()
  fields = scales._asdict()
  del fields["codec"]
  normalize.save_tensors(fields, store, len(store), file)
  return scales._replace(codec=codec)
