"""Gaussian moments that merge across hosts, and the Fréchet distance of them.

For sets of rows too large to keep: N rows of V elements become V^2 numbers.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from forecasting.metrics.frechet import distance_from_cross
from forecasting.shapes import Array


@dataclasses.dataclass(frozen=True)
class Moments:
  """First and second moments of a set of rows.

  Attributes:
    count: number of rows.
    mean: their mean; 0 if there are none.
    scatter: sum of outer products of the centered rows.
  """

  count: int
  mean: Float[np.ndarray, "V"]
  scatter: Float[np.ndarray, "V V"]

  def merge(self, other: "Moments") -> "Moments":
    """Moments of the rows of both sets together.

    Args:
      other: moments of other rows of the same length.

    Returns:
      The same, up to rounding, as the moments of all rows at once.
    """
    count = self.count + other.count
    if count == 0:
      return self
    shift = other.mean - self.mean
    between = self.count * other.count / count
    return Moments(
      count=count,
      mean=self.mean + shift * (other.count / count),
      scatter=self.scatter + other.scatter + between * np.outer(shift, shift),
    )

  @property
  def covariance(self) -> Float[np.ndarray, "V V"]:
    """Covariance with ddof 1; NaN for fewer than 2 rows."""
    if self.count < 2:
      return np.full_like(self.scatter, np.nan)
    return self.scatter / (self.count - 1)


def moments_of(rows: Float[Array, "N V"]) -> Moments:
  """Moments of a set of rows.

  Args:
    rows: any number of rows, also 0.

  Returns:
    The moments, accumulated around the mean.
  """
  rows = np.asarray(rows, np.float64)
  mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
  centered = rows - mean
  return Moments(len(rows), mean, centered.T @ centered)


def frechet_from_moments(pred: Moments, truth: Moments) -> float:
  """Fréchet distance between two Gaussians given by their moments.

  Less accurate than `frechet.frechet_distance` where a covariance is singular:
  its square root doubles the exponent of the rounding error.

  Args:
    pred: moments of the forecasts.
    truth: moments of the truth.

  Returns:
    The distance, at least 0; NaN for fewer than 2 rows on a side.
  """
  if min(pred.count, truth.count) < 2:
    return float("nan")
  covariances = pred.covariance, truth.covariance
  rest = np.square(pred.mean - truth.mean).sum()
  rest += sum(np.trace(covariance) for covariance in covariances)
  if not np.isfinite(rest):
    return float("nan")
  left, right = (_factor(covariance) for covariance in covariances)
  return distance_from_cross(rest, left.T @ right)


def _factor(
  covariance: Float[np.ndarray, "V V"],
) -> Float[np.ndarray, "V n"]:
  """F with F F^T = covariance, without directions that are only rounding."""
  values, vectors = np.linalg.eigh(covariance)
  floor = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
  kept = values > floor
  return vectors[:, kept] * np.sqrt(values[kept])
