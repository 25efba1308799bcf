"""Peak signal-to-noise ratio of forecast video (pixels task).

PSNR = -10 log10(max(MSE, 1e-10)) dB per frame, averaged over frames.
"""

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
  # One clip at a time, so that float64 copies stay small.
  return np.stack([_clip_psnr(p, t) for p, t in zip(pred, target)])


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


def _clip_psnr(
  pred: Float[Array, "S Tf H W 3"], target: Float[Array, "Tf H W 3"]
) -> Float[np.ndarray, "S Tf"]:
  pred = np.asarray(pred, np.float64)
  target = np.asarray(target, np.float64)
  # Clipping would turn an infinite prediction into a plausible one.
  is_finite = np.isfinite(pred).all(axis=(-3, -2, -1))
  is_finite &= np.isfinite(target).all(axis=(-3, -2, -1))
  with np.errstate(invalid="ignore"):
    squared = np.square(np.clip(pred, 0.0, 1.0) - target)
  error = np.maximum(squared.mean(axis=(-3, -2, -1)), MIN_SQUARED_ERROR)
  return np.where(is_finite, -10.0 * np.log10(error), np.nan)
