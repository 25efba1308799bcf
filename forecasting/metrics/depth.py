"""Absolute relative error of forecast depth (depth task)."""

import numpy as np
from jaxtyping import Bool, Float

from forecasting.shapes import Array

MIN_DEPTH_METERS = 1e-3
MAX_DEPTH_METERS = 10.0
EPSILON_METERS = 1e-6


def valid_depth(target: Float[Array, "*B"]) -> Bool[np.ndarray, "*B"]:
  """Whether each true depth counts: finite and in (0.001, 10] meters.

  Args:
    target: true depth in meters.

  Returns:
    A mask of the same shape.
  """
  meters = np.asarray(target, np.float64)
  with np.errstate(invalid="ignore"):
    return (meters > MIN_DEPTH_METERS) & (meters <= MAX_DEPTH_METERS)


def abs_relative_error(
  pred: Float[Array, "B S Tf H W 1"], target: Float[Array, "B Tf H W 1"]
) -> Float[np.ndarray, "B S"]:
  """Mean of |pred - target| / (target + 1e-6) over a clip's valid pixels.

  No alignment of scale and no clipping of the forecast. Pixels are pooled over
  the clip, not frame by frame.

  Args:
    pred: forecast depth in meters.
    target: true depth in meters; anything `valid_depth` refuses is left out.

  Returns:
    Values without unit; NaN for a clip without valid pixels and for a sample
    with a non-finite value at a valid pixel.

  Source: the official metric; pooling and absence of alignment are our choice.
  """
  return np.stack([_clip_error(p, t) for p, t in zip(pred, target)])


def _clip_error(
  pred: Float[Array, "S Tf H W 1"], target: Float[Array, "Tf H W 1"]
) -> Float[np.ndarray, "S"]:
  valid = valid_depth(target)
  if not valid.any():
    return np.full(pred.shape[0], np.nan)
  true = np.asarray(target, np.float64)[valid]
  forecast = np.asarray(pred)[:, valid].astype(np.float64)
  error = np.mean(np.abs(forecast - true) / (true + EPSILON_METERS), axis=-1)
  return np.where(np.isfinite(error), error, np.nan)
