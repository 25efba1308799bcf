"""Fréchet distance between Gaussians fitted to two sets of rows.

    FD = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2),  C with ddof 1  (1)

With centered data matrices A and B, divided by sqrt(n - 1), the last trace is
the sum of the singular values of A B^T. That is exact for singular covariances
and needs neither an epsilon nor complex numbers. Replacing A by the R of its QR
decomposition changes no singular value, which bounds the work by the number of
dimensions; the Cholesky factor of A^T A is the same R, found faster where A is
well conditioned.

The estimate is biased upwards, the more the fewer rows there are: compare only
distances with the same numbers of rows.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from forecasting.metrics.vectors import Vectors
from forecasting.shapes import Array

# Estimated relative error of the distance up to which the faster symmetric
# eigenvalues are taken for singular values. Measured errors are 1000 times
# smaller than the estimate.
_TOLERANCE = 1e-8
# Smallest pivot of a Cholesky factor, relative, that is trusted: its square
# stays eight digits above rounding.
_MIN_PIVOT = 1e-4
# Up to this size singular values cost next to nothing.
_SMALL = 256
# Floating point operations of a singular value decomposition run this many
# times slower than those of a matrix product.
_SVD_COST = 4.0


@dataclasses.dataclass(frozen=True)
class FrechetDistance:
  """A Fréchet distance and what it depends on.

  Attributes:
    value: eq. (1), at least 0; NaN if a side has fewer than 2 rows or a
      non-finite element.
    num_pred: rows of the forecasts.
    num_truth: rows of the truth.
    num_samples: forecasts per row of the truth.
    num_dims: length of a row.
  """

  value: float
  num_pred: int
  num_truth: int
  num_samples: int
  num_dims: int

  @property
  def rank_deficient(self) -> bool:
    """Whether a side has too few rows for a covariance of full rank."""
    return min(self.num_pred, self.num_truth) <= self.num_dims


def fd(vectors: Vectors) -> FrechetDistance:
  """Distance of the forecasts of all samples, pooled, from the truth.

  Args:
    vectors: rows of forecasts and truth.

  Returns:
    The headline distance. Source: our choice (the pooling).
  """
  value = frechet_distance(vectors.pooled(), vectors.truth)
  return FrechetDistance(
    value=value,
    num_pred=vectors.num_rows * vectors.num_samples,
    num_truth=vectors.num_rows,
    num_samples=vectors.num_samples,
    num_dims=vectors.truth.shape[1],
  )


def fd_1(vectors: Vectors) -> FrechetDistance:
  """Distance of the first forecast of each row from the truth.

  Args:
    vectors: rows of forecasts and truth.

  Returns:
    The distance by which forecasters of different numbers of samples compare.
  """
  return fd(vectors.first_sample())


def frechet_distance(
  pred: Float[Array, "N V"], truth: Float[Array, "M V"]
) -> float:
  """Fréchet distance between two sets of rows, eq. (1).

  Args:
    pred: rows of the forecasts.
    truth: rows of the truth.

  Returns:
    The distance in squared units of the rows, at least 0; NaN for fewer than
    2 rows on a side or a non-finite element.
  """
  pred = np.asarray(pred, np.float64)
  truth = np.asarray(truth, np.float64)
  if min(len(pred), len(truth)) < 2:
    return float("nan")
  if not (np.isfinite(pred).all() and np.isfinite(truth).all()):
    return float("nan")
  mean_pred, pred = _standardize(pred)
  mean_truth, truth = _standardize(truth)
  rest = np.square(mean_pred - mean_truth).sum()
  rest += np.vdot(pred, pred) + np.vdot(truth, truth)
  pred, truth = _reduce(pred, truth)
  return distance_from_cross(rest, pred @ truth.T)


def distance_from_cross(
  rest: float, cross: Float[np.ndarray, "N M"], tolerance: float = _TOLERANCE
) -> float:
  """Eq. (1) from its parts.

  Args:
    rest: the terms other than the last trace.
    cross: A B^T of the module docstring.
    tolerance: relative error of the distance that is accepted for speed.

  Returns:
    The distance, at least 0.
  """
  if cross.shape[0] > cross.shape[1]:
    cross = cross.T
  if len(cross) > _SMALL:
    # Eigenvalues of the Gram matrix come several times faster than singular
    # values, but squared: what that loses must be small against the distance.
    squares = np.linalg.eigvalsh(cross @ cross.T)
    value = rest - 2.0 * np.sqrt(np.maximum(squares, 0.0)).sum()
    if 2.0 * _error_of_roots(squares) <= tolerance * value:
      return float(value)
  singular_values = np.linalg.svd(cross, compute_uv=False)
  return max(float(rest - 2.0 * singular_values.sum()), 0.0)


def _error_of_roots(squares: Float[np.ndarray, "n"]) -> float:
  """Estimated error of the sum of square roots of computed eigenvalues."""
  noise = 8.0 * np.finfo(np.float64).eps * max(squares[-1], 0.0)
  is_lost = squares <= 100.0 * noise
  # The roots of eigenvalues lost in noise are all too large, so their errors
  # add up; those of the others have random signs.
  biased = np.sqrt(noise) * is_lost.sum()
  random = noise / np.sqrt(squares[~is_lost])
  return float(biased + np.sqrt(np.square(random).sum()))


def _standardize(
  rows: Float[np.ndarray, "N V"],
) -> tuple[Float[np.ndarray, "V"], Float[np.ndarray, "N V"]]:
  """Mean of the rows, and the centered rows over sqrt(N - 1)."""
  mean = rows.mean(axis=0)
  rows = rows - mean
  rows /= np.sqrt(len(rows) - 1)
  return mean, rows


def _reduce(
  pred: Float[np.ndarray, "N V"], truth: Float[np.ndarray, "M V"]
) -> tuple[Float[np.ndarray, "n V"], Float[np.ndarray, "m V"]]:
  """Replaces by R of its QR each side for which that saves work."""
  num_dims = pred.shape[1]

  def cost(num_pred, num_truth):
    small, large = sorted((num_pred, num_truth))
    product = 2.0 * small * large * num_dims
    values = 2.0 * small**2 * large + _SVD_COST * 4.0 / 3.0 * small**3
    return (
      product + values + factoring(num_pred, pred) + factoring(num_truth, truth)
    )

  def factoring(num_rows, rows):
    if num_rows == len(rows):
      return 0.0
    return 1.0 * len(rows) * num_dims**2 + 1.0 / 3.0 * num_dims**3

  choices = [
    (n, m)
    for n in {len(pred), min(len(pred), num_dims)}
    for m in {len(truth), min(len(truth), num_dims)}
  ]
  num_pred, num_truth = min(choices, key=lambda sizes: cost(*sizes))
  if num_pred < len(pred):
    pred = _triangular(pred)
  if num_truth < len(truth):
    truth = _triangular(truth)
  return pred, truth


def _triangular(rows: Float[np.ndarray, "N V"]) -> Float[np.ndarray, "V V"]:
  """R of the QR decomposition, up to signs."""
  try:
    # Several times faster than QR, but a poorly conditioned matrix loses its
    # small directions when it is squared.
    factor = np.linalg.cholesky(rows.T @ rows).T
  except np.linalg.LinAlgError:
    return np.linalg.qr(rows, mode="r")
  pivots = np.diagonal(factor)
  if pivots.min() < _MIN_PIVOT * pivots.max():
    return np.linalg.qr(rows, mode="r")
  return factor
