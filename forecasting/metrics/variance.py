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
