"""Peak signal-to-noise ratio of forecast video (pixels task).

PSNR = -10 log10(max(MSE, 1e-10)) dB per frame, averaged over frames.
"""

import math

import numpy as np
from jaxtyping import Float

from forecasting.shapes import Array

# A perfect frame scores 100 dB. Source: tasks.md 5.1, the official metric.
MIN_SQUARED_ERROR = 1e-10


def frame_psnr(
  pred: Float[Array, "B S Tf H W 3"], target: Float[Array, "B Tf H W 3"]
) -> Float[np.ndarray, "B S Tf"]:
  """PSNR of every frame.

  Args:
    pred: forecast frames, 1 is white; clipped to [0, 1] first.
    target: true frames in [0, 1].

  Returns:
    Decibels, at most 100; NaN for a frame with a non-finite value.

  Source: our choice (the clipping), else the official metric.
  """
  # Frame by frame: its float64 copies stay in the cache.
  values = np.empty(pred.shape[:3])
  for b, s, t in np.ndindex(*values.shape):
    values[b, s, t] = _frame(
      np.asarray(pred[b, s, t]), np.asarray(target[b, t])
    )
  return values


def psnr(
  pred: Float[Array, "B S Tf H W 3"], target: Float[Array, "B Tf H W 3"]
) -> Float[np.ndarray, "B S"]:
  """Mean over frames of the PSNR per frame.

  Args:
    pred: forecast frames, 1 is white; clipped to [0, 1] first.
    target: true frames in [0, 1].

  Returns:
    Decibels; NaN for a sample with any non-finite value.
  """
  return frame_psnr(pred, target).mean(axis=-1)


def _frame(
  pred: Float[np.ndarray, "H W 3"], target: Float[np.ndarray, "H W 3"]
) -> float:
  # Clipping would turn an infinite prediction into a plausible one.
  if not (np.isfinite(pred).all() and np.isfinite(target).all()):
    return float("nan")
  difference = np.clip(pred, 0.0, 1.0).astype(np.float64).ravel()
  difference -= target.ravel()
  error = np.dot(difference, difference) / difference.size
  return -10.0 * math.log10(max(error, MIN_SQUARED_ERROR))
