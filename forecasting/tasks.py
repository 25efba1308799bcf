"""The four tasks as rows: labels, loss, metric, direction, vectors.

A task ties together what the folders offer: which labels it needs, how its
readout is trained, how one forecast is scored, and which numbers of a
forecast the distribution metrics compare.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from einops import reduce
from jaxtyping import Bool, Float

from forecasting.metrics import boxes as box_metrics
from forecasting.metrics import depth as depth_metrics
from forecasting.metrics import psnr as psnr_metrics
from forecasting.metrics import tracks as track_metrics
from forecasting.metrics import vectors
from forecasting.readouts import losses
from forecasting.shapes import Array

Outputs = Mapping[str, Any]
Labels = Mapping[str, Any]
Scores = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Task:
  """One task.

  Attributes:
    name: as in configs.
    metric: name of the headline metric, the key of `scores`' first entry.
    unit: of the metric.
    higher_is_better: direction of the metric.
    labels: keys of a clip that the task needs.
    loss: (outputs, labels, example_mask) -> (scalar, terms).
    scores: (outputs [B S T ...], labels [B T ...], num_context) -> name to
      one value per clip and sample, over the frames after the context.
    vectors: same arguments -> rows for the distribution metrics.
    is_finite: same arguments -> whether all that is scored of a forecast's
      frame is, [B S Tf]; what the truth leaves out may be anything.
  """

  name: str
  metric: str
  unit: str
  higher_is_better: bool
  labels: tuple[str, ...]
  loss: Callable[..., tuple[Any, dict[str, Any]]]
  scores: Callable[[Outputs, Labels, int], Scores]
  vectors: Callable[[Outputs, Labels, int], vectors.Vectors]
  is_finite: Callable[[Outputs, Labels, int], np.ndarray]


# Labels with a frame axis.
_PER_FRAME = ("video", "depth", "tracks", "visible", "boxes", "box_mask")


def scores_per_lead(
  task: Task, outputs: Outputs, labels: Labels, start: int
) -> np.ndarray:
  """Returns the headline metric of every frame from `start` on by itself.

  Args:
    task: a value of TASKS.
    outputs: of the readout, [B S T ...].
    labels: of the clips.
    start: first frame that is scored, at least 1.

  Returns:
    One value per clip, sample and frame ahead, [B S Tf]; NaN where a frame has
    nothing to score.
  """
  num_frames = len(np.asarray(labels[task.labels[0]])[0])
  found = []
  for frame in range(start, num_frames):
    # A clip of the frame and the one before, which stands for the query's.
    pair = slice(frame - 1, frame + 1)
    now = {name: value[:, :, pair] for name, value in outputs.items()}
    truth = {
      name: labels[name][:, pair] if name in _PER_FRAME else labels[name]
      for name in task.labels
    }
    found.append(task.scores(now, truth, 1)[task.metric])
  return np.stack(found, axis=-1)


def to_unit_range(video: np.ndarray) -> np.ndarray:
  """Returns frames in [0, 1]: uint8 is divided by 255."""
  video = np.asarray(video)
  if video.dtype == np.uint8:
    return video.astype(np.float32) / 255.0
  return video.astype(np.float32)


def visible(outputs: Outputs) -> np.ndarray:
  """Returns which points are predicted visible.

  A point is visible if the product of the probabilities of being visible and
  of being located well is above one half.

  Source: tasks.md 2.3, the rule of the official head.
  """

  def sigmoid(logit):
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logit, np.float64)))

  return (
    sigmoid(outputs["visible_logit"]) * sigmoid(outputs["certainty_logit"])
    > 0.5
  )


def _finite_frames(
  values: Float[Array, "B S Tf ..."], counted: Bool[Array, "..."] | bool = True
) -> Bool[np.ndarray, "B S Tf"]:
  """Returns whether the counted values of every frame are finite."""
  # Sample by sample, which bounds the memory of the masks.
  found = [
    np.isfinite(values[:, sample]) | np.logical_not(counted)
    for sample in range(values.shape[1])
  ]
  return np.stack([reduce(x, "B Tf ... -> B Tf", "all") for x in found], axis=1)


def _pixels_scores(outputs: Outputs, labels: Labels, start: int) -> Scores:
  target = to_unit_range(labels["video"])[:, start:]
  return {"psnr": psnr_metrics.psnr(outputs["video"][:, :, start:], target)}


def _pixels_vectors(outputs: Outputs, labels: Labels, start: int):
  target = to_unit_range(labels["video"])[:, start:]
  return vectors.pixels_vectors(outputs["video"][:, :, start:], target)


def _pixels_finite(outputs: Outputs, labels: Labels, start: int) -> np.ndarray:
  del labels
  return _finite_frames(outputs["video"][:, :, start:])


def _depth_scores(outputs: Outputs, labels: Labels, start: int) -> Scores:
  target = np.asarray(labels["depth"], np.float32)[:, start:]
  error = depth_metrics.abs_relative_error(
    outputs["depth"][:, :, start:], target
  )
  return {"absrel": error}


def _depth_vectors(outputs: Outputs, labels: Labels, start: int):
  target = np.asarray(labels["depth"], np.float32)[:, start:]
  return vectors.depth_vectors(
    outputs["depth"][:, :, start:], target, depth_metrics.valid_depth(target)
  )


def _depth_finite(outputs: Outputs, labels: Labels, start: int) -> np.ndarray:
  valid = depth_metrics.valid_depth(labels["depth"][:, start:])
  return _finite_frames(outputs["depth"][:, :, start:], valid)


def _points_scores(outputs: Outputs, labels: Labels, start: int) -> Scores:
  scores = track_metrics.forecast_scores(
    outputs["tracks"],
    visible(outputs),
    labels["tracks"],
    labels["visible"],
    labels["track_mask"],
    start,
  )
  return {
    "aj": scores.average_jaccard,
    "occlusion_accuracy": scores.occlusion_accuracy,
    "delta_avg": scores.delta_avg,
  }


def _points_vectors(outputs: Outputs, labels: Labels, start: int):
  return vectors.points_vectors(
    outputs["tracks"],
    labels["tracks"],
    labels["visible"],
    labels["track_mask"],
    start,
  )


def _points_finite(outputs: Outputs, labels: Labels, start: int) -> np.ndarray:
  real = np.asarray(labels["track_mask"])[:, None]
  tracks = _finite_frames(outputs["tracks"][:, :, start:], real[..., None])
  # A comparison with NaN is False, which would pass for a hidden point.
  logits = [
    _finite_frames(outputs[name][:, :, start:], real)
    for name in ("visible_logit", "certainty_logit")
  ]
  return np.logical_and.reduce([tracks, *logits])


def _boxes_scores(outputs: Outputs, labels: Labels, start: int) -> Scores:
  iou = box_metrics.mean_iou(
    outputs["boxes"],
    labels["boxes"],
    labels["box_mask"],
    labels["object_mask"],
    start,
  )
  return {"iou": iou}


def _boxes_vectors(outputs: Outputs, labels: Labels, start: int):
  return vectors.boxes_vectors(
    outputs["boxes"],
    labels["boxes"],
    labels["box_mask"],
    labels["object_mask"],
    start,
  )


def _boxes_finite(outputs: Outputs, labels: Labels, start: int) -> np.ndarray:
  counted = labels["box_mask"] & labels["object_mask"][:, None]
  counted = np.asarray(counted)[:, start:, :, None]
  return _finite_frames(outputs["boxes"][:, :, start:], counted)


TASKS: Mapping[str, Task] = {
  task.name: task
  for task in (
    Task(
      name="pixels",
      metric="psnr",
      unit="dB",
      higher_is_better=True,
      labels=("video",),
      loss=losses.pixels_loss,
      scores=_pixels_scores,
      vectors=_pixels_vectors,
      is_finite=_pixels_finite,
    ),
    Task(
      name="depth",
      metric="absrel",
      unit="1",
      higher_is_better=False,
      labels=("depth",),
      loss=losses.depth_loss,
      scores=_depth_scores,
      vectors=_depth_vectors,
      is_finite=_depth_finite,
    ),
    Task(
      name="points",
      metric="aj",
      unit="1",
      higher_is_better=True,
      labels=("tracks", "visible", "track_mask"),
      loss=losses.points_loss,
      scores=_points_scores,
      vectors=_points_vectors,
      is_finite=_points_finite,
    ),
    Task(
      name="boxes",
      metric="iou",
      unit="1",
      higher_is_better=True,
      labels=("boxes", "box_mask", "object_mask"),
      loss=losses.boxes_loss,
      scores=_boxes_scores,
      vectors=_boxes_vectors,
      is_finite=_boxes_finite,
    ),
  )
}
