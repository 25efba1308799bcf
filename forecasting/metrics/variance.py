"""Variance of trajectory vectors, in the two readings of the paper's column."""

import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.shapes import Array


def var_time(rows: Float[Array, "*R V"], num_frames: int) -> float:
  """Variance over the frames of a row, averaged over everything else.

  Args:
    rows: frame-major trajectory vectors.
    num_frames: frames a row spans.

  Returns:
    The mean variance (ddof 0) in squared units of the rows; NaN without rows.

  Source: paper 3.3; the headline reading.
  """
  rows = np.asarray(rows, np.float64)
  if rows.size == 0:
    return float("nan")
  by_frame = rearrange(rows, "... (f c) -> ... f c", f=num_frames)
  return float(by_frame.var(axis=-2).mean())


def by_member(
  pred: Float[Array, "R S V"], members: int
) -> tuple[Float[np.ndarray, "R"], Float[np.ndarray, "R"]]:
  """Splits the variance of pooled samples, averaged over the elements of a row.

  The estimates of a one-way analysis of variance, which are unbiased for any
  numbers of samples: of S samples of m members whose means vary by B and whose
  samples by W, the mean square between members is W + n B with
  n = (S - sum n_i^2 / S) / (m - 1).

  Args:
    pred: samples; sample s is of member s mod `members`.
    members: m, at least 2 and fewer than the samples.

  Returns:
    B, which may fall below 0 where members agree, and W.
  """
  pred = np.asarray(pred, np.float64)
  groups = [pred[:, member::members] for member in range(members)]
  sizes = np.array([group.shape[1] for group in groups])
  means = np.stack([group.mean(axis=1) for group in groups])
  inside = sum(
    np.square(group - mean[:, None]).sum(axis=1)
    for group, mean in zip(groups, means)
  )
  within = inside / (sizes.sum() - members)
  apart = np.square(means - pred.mean(axis=1))
  outside = np.tensordot(sizes, apart, axes=1) / (members - 1)
  size = (sizes.sum() - np.square(sizes).sum() / sizes.sum()) / (members - 1)
  return ((outside - within) / size).mean(axis=-1), within.mean(axis=-1)


def var_gauss(rows: Float[Array, "N V"]) -> float:
  """Trace of the rows' covariance, divided by their length.

  Args:
    rows: trajectory vectors; those of all samples pooled.

  Returns:
    The mean variance (ddof 1) in squared units; NaN for fewer than 2 rows.

  Source: paper, caption of table 2.
  """
  if rows.shape[0] < 2:
    return float("nan")
  return float(np.asarray(rows, np.float64).var(axis=0, ddof=1).mean())
