"""Principal components of training latents: few numbers per token, linearly.

The covariance is summed up on the accelerator, a batch of clips at a time, so
that neither the latents nor their products ever are in memory at once.

Source: forecaster.md 7.5; DINO-Foresight (arXiv 2412.11673) forecasts the 1152
first of 3072.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.latents import normalize
from forecasting.latents.normalize import LatentStats
from forecasting.latents.store import LatentStore
from forecasting.shapes import Array


class Pca(NamedTuple):
  """The first k principal components of latents.

  Attributes:
    basis: orthonormal columns, most variance first.
    center: mean of the latents.
    deviation: standard deviation of each component.
    total: variance of the latents, summed over channels.
  """

  basis: Float[Array, "C k"]
  center: Float[Array, "C"]
  deviation: Float[Array, "k"]
  total: Float[Array, ""]

  @property
  def kind(self) -> str:
    """Its word in `config.forecaster.compress`."""
    return "pca"

  @property
  def shape(self) -> tuple[int, int]:
    """Numbers of channels and of components."""
    return self.basis.shape

  @property
  def explained(self) -> float:
    """Share of the latents' variance that the components hold."""
    return float(np.square(self.deviation).sum() / max(self.total, 1e-30))

  def encode(self, latents: Float[Array, "*B C"]) -> Float[Array, "*B k"]:
    """Returns the components of latents."""
    return multiply(latents - self.center, self.basis)

  def decode(self, components: Float[Array, "*B k"]) -> Float[Array, "*B C"]:
    """Returns the latents nearest to the center that have these components."""
    return multiply(components, self.basis.T) + self.center


def multiply(x: Array, matrix: Array) -> jax.Array:
  """Returns x @ matrix in full precision.

  The default of accelerators would cost what full rank promises.
  """
  return jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST)


def principal_components(
  latents: Iterable[Float[np.ndarray, "*B C"]], center: Float[Array, "C"]
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
    return multiply(rows.T, rows)

  total, count = 0.0, 0
  for batch in latents:
    total += np.asarray(scatter(batch, jnp.asarray(center)), np.float64)
    count += batch[..., 0].size
  variances, basis = np.linalg.eigh(total / count)
  variances, basis = variances[::-1], basis[:, ::-1]
  largest = np.abs(basis).argmax(axis=0)
  sign = np.sign(basis[largest, np.arange(len(basis))])
  return basis * sign, np.maximum(variances, 0.0)


def compute_pca(store: LatentStore, stats: LatentStats, components: int) -> Pca:
  """Returns the principal components of a training set, computing them once.

  They are kept beside the manifest, as the statistics of
  `normalize.compute_stats`.

  Args:
    store: of the training split.
    stats: of the same store.
    components: how many to keep.

  Raises:
    ValueError: there are not as many channels.
  """
  channels = len(stats.mean)
  if not 1 <= components <= channels:
    raise ValueError(
      f"forecaster.compress asks for {components} components, but the latents"
      f" have {channels} channels: expected 1 to {channels}, or 'none'."
    )
  name = f"pca-{components}.safetensors"
  try:
    return Pca(**normalize.load_tensors(store, len(store), name))
  except (FileNotFoundError, normalize.StatsError, TypeError):
    pass
  batches = (np.concatenate(b, axis=1) for b in normalize.read_batches(store))
  basis, variances = principal_components(batches, stats.mean)
  fields = (
    basis[:, :components],
    stats.mean,
    np.sqrt(variances[:components]),
    variances.sum(),
  )
  pca = Pca(*(np.asarray(field, np.float32) for field in fields))
  normalize.save_tensors(pca._asdict(), store, len(store), name)
  return pca
