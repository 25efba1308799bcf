"""Average Jaccard of forecast point tracks (points task).

Distances are in pixels of a 256 x 256 raster whatever the video's size. For a
threshold d, over the evaluated pairs of a track and a frame,

    TP = visible in truth and forecast, and closer than d
    FP = visible in the forecast, and hidden in the truth or not closer than d
    J  = TP / (visible in truth + FP)

and Average Jaccard is the mean of J over d = 1, 2, 4, 8, 16.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from forecasting.shapes import Array

RASTER_SIZE = 256.0
THRESHOLDS_PIXELS = (1, 2, 4, 8, 16)
QUERY_FRAME = 0


@dataclasses.dataclass(frozen=True)
class TrackScores:
  """Scores of point tracks; thresholds are the last axis of two of them.

  Attributes:
    average_jaccard: mean of `jaccard` over thresholds; NaN if everything is
      hidden in truth and forecast alike.
    jaccard: Jaccard index at each of THRESHOLDS_PIXELS.
    occlusion_accuracy: share of pairs whose visibility agrees.
    delta_avg: mean of `within` over thresholds.
    within: share of truly visible pairs that are closer than each threshold.
  """

  average_jaccard: Float[np.ndarray, "*B"]
  jaccard: Float[np.ndarray, "*B 5"]
  occlusion_accuracy: Float[np.ndarray, "*B"]
  delta_avg: Float[np.ndarray, "*B"]
  within: Float[np.ndarray, "*B 5"]


def average_jaccard(
  pred_xy: Float[Array, "B S T Q 2"],
  pred_visible: Bool[Array, "B S T Q"],
  true_xy: Float[Array, "B T Q 2"],
  true_visible: Bool[Array, "B T Q"],
  track_mask: Bool[Array, "B Q"],
  num_context: int = 4,
) -> Float[np.ndarray, "B S"]:
  """Average Jaccard over the frames after the context.

  Args:
    pred_xy: forecast points, normalized to [0, 1], all frames.
    pred_visible: forecast visibility.
    true_xy: true points, normalized to [0, 1].
    true_visible: true visibility.
    track_mask: False for padding.
    num_context: first frame that is scored.

  Returns:
    One value per clip and sample; see `forecast_scores`.
  """
  return forecast_scores(
    pred_xy, pred_visible, true_xy, true_visible, track_mask, num_context
  ).average_jaccard


def forecast_scores(
  pred_xy: Float[Array, "B S T Q 2"],
  pred_visible: Bool[Array, "B S T Q"],
  true_xy: Float[Array, "B T Q 2"],
  true_visible: Bool[Array, "B T Q"],
  track_mask: Bool[Array, "B Q"],
  num_context: int = 4,
) -> TrackScores:
  """All track scores over the frames after the context, one per sample.

  Args:
    pred_xy: forecast points, normalized to [0, 1], all frames.
    pred_visible: forecast visibility.
    true_xy: true points, normalized to [0, 1]; may be NaN where hidden.
    true_visible: true visibility.
    track_mask: False for padding.
    num_context: first frame that is scored; at least 1, since queries are at
      frame 0.

  Returns:
    Scores [B S]; NaN for a sample with a non-finite point among the scored.

  Raises:
    ValueError: if the frame of the query would be scored.
  """
  if num_context <= QUERY_FRAME:
    raise ValueError(
      f"num_context is {num_context}; the query frame {QUERY_FRAME} is given "
      "to the forecaster and cannot be scored, use 1 or more."
    )
  frames = np.arange(true_visible.shape[1]) >= num_context
  evaluated = frames[:, None] & np.asarray(track_mask)[:, None, :]
  return _score(
    np.asarray(pred_xy, np.float64) * RASTER_SIZE,
    np.asarray(pred_visible),
    np.asarray(true_xy, np.float64)[:, None] * RASTER_SIZE,
    np.asarray(true_visible)[:, None],
    evaluated[:, None],
    pair_axes=(-2, -1),
  )


def tapvid_scores(
  query_points: Float[Array, "B Q 3"],
  true_xy: Float[Array, "B Q T 2"],
  true_occluded: Bool[Array, "B Q T"],
  pred_xy: Float[Array, "B Q T 2"],
  pred_occluded: Bool[Array, "B Q T"],
  *,
  mode: Literal["first", "strided"] = "first",
  per_track: bool = False,
) -> TrackScores:
  """Track scores under TAP-Vid's rules and in its layout.

  Args:
    query_points: (frame, y, x) of every query.
    true_xy: true points in pixels of the 256 x 256 raster.
    true_occluded: True where the true point is hidden.
    pred_xy: predicted points in pixels of the same raster.
    pred_occluded: True where the point is predicted hidden.
    mode: 'first' scores the frames strictly after the query, 'strided' all
      frames but the query's.
    per_track: score every track by itself instead of a video's together.

  Returns:
    Scores [B], or [B Q] per track.

  Raises:
    ValueError: if the mode is unknown.
  """
  frames = np.arange(true_occluded.shape[-1])
  queries = np.round(np.asarray(query_points)[..., :1]).astype(np.int64)
  if mode == "first":
    evaluated = frames > queries
  elif mode == "strided":
    evaluated = frames != queries
  else:
    raise ValueError(f"mode is {mode!r}; expected 'first' or 'strided'.")
  return _score(
    np.asarray(pred_xy, np.float64),
    ~np.asarray(pred_occluded),
    np.asarray(true_xy, np.float64),
    ~np.asarray(true_occluded),
    evaluated,
    pair_axes=(-1,) if per_track else (-2, -1),
  )


def _score(
  pred_xy: np.ndarray,
  pred_visible: np.ndarray,
  true_xy: np.ndarray,
  true_visible: np.ndarray,
  evaluated: np.ndarray,
  pair_axes: tuple[int, ...],
) -> TrackScores:
  """Scores of broadcastable arrays of pairs, summed over `pair_axes`."""

  def count(pairs):
    return (pairs & evaluated).sum(axis=pair_axes)

  with np.errstate(invalid="ignore", over="ignore"):
    squared_distance = np.square(pred_xy - true_xy).sum(axis=-1)
  num_visible = count(np.broadcast_to(true_visible, pred_visible.shape))
  num_evaluated = count(np.ones(pred_visible.shape, bool))
  jaccards, withins = [], []
  for threshold in THRESHOLDS_PIXELS:
    within = squared_distance < threshold**2
    hits = count(true_visible & pred_visible & within)
    false = count(pred_visible & ~(true_visible & within))
    jaccards.append(_ratio(hits, num_visible + false))
    withins.append(_ratio(count(true_visible & within), num_visible))
  # A comparison with NaN is False, which would pass for a plain miss.
  is_finite = count(~np.isfinite(pred_xy).all(axis=-1)) == 0
  scores = {
    "average_jaccard": np.mean(np.stack(jaccards, axis=-1), axis=-1),
    "jaccard": np.stack(jaccards, axis=-1),
    "occlusion_accuracy": _ratio(
      count(pred_visible == true_visible), num_evaluated
    ),
    "delta_avg": np.mean(np.stack(withins, axis=-1), axis=-1),
    "within": np.stack(withins, axis=-1),
  }
  for name, values in scores.items():
    keep = is_finite[..., None] if values.ndim > is_finite.ndim else is_finite
    scores[name] = np.where(keep, values, np.nan)
  return TrackScores(**scores)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """The ratio of two counts, NaN for 0 / 0."""
  return np.where(
    denominator > 0, numerator / np.maximum(denominator, 1), np.nan
  )
