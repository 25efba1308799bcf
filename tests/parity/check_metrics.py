"""Runs the metrics on stored inputs and compares with stored values.

  python tests/parity/check_metrics.py DIR

DIR holds any of psnr, absrel, tapvid, aj_forecast, iou, fd, vectors and
aggregate .npz; their arrays may have any size and number of cases. Prints one
line per case with its error and exits non-zero if one exceeds its tolerance:
1e-6 relative, and for counts of tracks (Average Jaccard and the like) 1e-12
absolute, since one flipped point changes a score by far more. NaN must meet
NaN.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from forecasting.metrics.aggregate import aggregate
from forecasting.metrics.boxes import mean_iou, pair_iou
from forecasting.metrics.depth import abs_relative_error, valid_depth
from forecasting.metrics.frechet import distance_from_cross, frechet_distance
from forecasting.metrics.psnr import frame_psnr, psnr
from forecasting.metrics.tracks import (
  THRESHOLDS_PIXELS,
  TrackScores,
  average_jaccard,
  forecast_scores,
  tapvid_scores,
)
from forecasting.metrics.variance import var_gauss, var_time
from forecasting.metrics.vectors import (
  Vectors,
  boxes_vectors,
  depth_vectors,
  pixels_vectors,
  points_vectors,
)

RELATIVE = 1e-6
EXACT = 1e-12
MAX_MOMENTS = 256  # dimensions up to which the moments are tried as well

Arrays = Mapping[str, np.ndarray]


class Case(NamedTuple):
  """A value of ours beside the stored one.

  Attributes:
    name: key of the stored value.
    ours: computed value.
    stored: expected value.
    kind: 'relative', 'absolute', or 'note' for a value that is shown only.
    floor: stored values below it are compared as if they were this large, so
      that rounding around 0 does not count.
  """

  name: str
  ours: np.ndarray | float
  stored: np.ndarray | float
  kind: str = "relative"
  floor: float = 1e-6


def error_of(case: Case) -> float:
  """Largest error; infinite if shapes or places of NaN differ.

  Args:
    case: the two values.

  Returns:
    The error, 0 for empty arrays.
  """
  ours = np.asarray(case.ours, np.float64)
  stored = np.asarray(case.stored, np.float64)
  if ours.shape != stored.shape:
    return np.inf
  if not np.array_equal(np.isnan(ours), np.isnan(stored)):
    return np.inf
  kept = ~np.isnan(stored)
  error = np.abs(ours[kept] - stored[kept])
  # Equal infinities differ by NaN.
  error[ours[kept] == stored[kept]] = 0.0
  if case.kind != "absolute":
    error = error / np.maximum(np.abs(stored[kept]), case.floor)
  return float(error.max(initial=0.0))


def check_psnr(arrays: Arrays) -> Iterator[Case]:
  """Clipped values are ours; the file's unclipped ones are not a metric."""
  pred, target = arrays["pred"], arrays["target"]
  values = {
    "sample_psnr": psnr(pred, target),
    "frame_psnr_clipped": frame_psnr(pred, target),
  }
  yield from _compare(values, arrays)
  yield from _compare_aggregate(values["sample_psnr"], arrays)


def check_absrel(arrays: Arrays) -> Iterator[Case]:
  """The metric and its mask; the value without epsilon is not a metric."""
  values = {
    "valid": valid_depth(arrays["target"]),
    "sample_absrel": abs_relative_error(arrays["pred"], arrays["target"]),
  }
  yield from _compare(values, arrays)
  yield from _compare_aggregate(values["sample_absrel"], arrays)


def check_tapvid(arrays: Arrays) -> Iterator[Case]:
  """Every `<case>__<mode>__<video or track>__<metric>` of the file."""
  expected = [key for key in arrays if key.count("__") == 3]
  groups = sorted({tuple(key.split("__")[:3]) for key in expected})
  for case, mode, per in groups:
    scores = tapvid_scores(
      arrays[f"{case}__query_points"],
      arrays[f"{case}__gt_tracks"],
      arrays[f"{case}__gt_occluded"],
      arrays[f"{case}__pred_tracks"],
      arrays[f"{case}__pred_occluded"],
      mode=mode,
      per_track=per == "track",
    )
    prefix = f"{case}__{mode}__{per}__"
    values = {prefix + k: v for k, v in _tapvid_names(scores).items()}
    for key in expected:
      if key.startswith(prefix):
        yield Case(key, values.get(key, np.nan), arrays[key], "absolute")


def check_aj_forecast(arrays: Arrays) -> Iterator[Case]:
  """Scores of frames 4 on, and Average Jaccard of frames 1 on."""
  inputs = [
    arrays[key]
    for key in (
      "pred_tracks",
      "pred_visible",
      "gt_tracks",
      "gt_visible",
      "track_mask",
    )
  ]
  scores = forecast_scores(*inputs)
  values = {
    "sample_aj": scores.average_jaccard,
    "sample_jaccard": scores.jaccard,
    "sample_occlusion_accuracy": scores.occlusion_accuracy,
    "sample_delta_avg": scores.delta_avg,
    "sample_aj_frames_1_15": average_jaccard(*inputs, num_context=1),
  }
  yield from _compare(values, arrays, kind="absolute")
  yield from _compare_aggregate(values["sample_aj"], arrays)


def check_iou(arrays: Arrays) -> Iterator[Case]:
  """Every pair of boxes, then the masked mean."""
  pred, target = arrays["pred_boxes"], arrays["gt_boxes"]
  masks = arrays["box_mask"], arrays["track_mask"]
  values = {
    "pair_iou": pair_iou(pred, target[:, None]),
    "sample_iou": mean_iou(pred, target, *masks),
  }
  yield from _compare(values, arrays)
  yield from _compare_aggregate(values["sample_iou"], arrays)


def check_fd(arrays: Arrays) -> Iterator[Case]:
  """Each case against the singular-value form, else against what there is.

  Matrix square roots are themselves off where a covariance is singular, and so
  are our moments; beside the singular values they are shown, not judged.
  """
  for case in sorted({key.split("__")[0] for key in arrays}):
    sides = [_rows(arrays, case, side) for side in ("pred", "gt")]
    pred, truth = sides
    value = frechet_distance(pred, truth)
    # Identical sets have a distance of 0 up to rounding of their traces.
    traces = (np.square(x - x.mean(axis=0)).mean(axis=0).sum() for x in sides)
    floor = max(1e-3 * sum(traces), 1e-12)
    exact_key = f"{case}__fd_svd"
    for key in arrays:
      if key.startswith(f"{case}__fd_"):
        is_judged = key == exact_key or exact_key not in arrays
        kind = "relative" if is_judged else "note"
        yield Case(key, value, arrays[key], kind, floor)
    if exact_key in arrays and pred.shape[1] <= MAX_MOMENTS:
      by_moments = _from_moments(pred, truth)
      name = f"{exact_key} from moments"
      yield Case(name, by_moments, arrays[exact_key], "note", floor)
    for side, rows in (("pred", pred), ("gt", truth)):
      key = f"{case}__var_gauss_{side}"
      if key in arrays:
        yield Case(key, var_gauss(rows), arrays[key])


def _from_moments(pred: np.ndarray, truth: np.ndarray) -> float:
  """Fréchet distance from means and covariances, as other tools compute it.

  Its square roots double the exponent of the rounding error.
  """
  if min(len(pred), len(truth)) < 2:
    return float("nan")
  rest, factors = np.square(pred.mean(axis=0) - truth.mean(axis=0)).sum(), []
  for rows in (pred, truth):
    covariance = np.atleast_2d(np.cov(rows, rowvar=False))
    if not np.isfinite(covariance).all():
      return float("nan")
    values, vectors = np.linalg.eigh(covariance)
    floor = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    kept = values > floor
    factors.append(vectors[:, kept] * np.sqrt(values[kept]))
    rest += np.trace(covariance)
  return distance_from_cross(rest, factors[0].T @ factors[1])


def check_vectors(arrays: Arrays) -> Iterator[Case]:
  """Rows, kept sets and variances of each task the file has."""
  if "pixels" in arrays:
    video = arrays["pixels"]
    made = pixels_vectors(video, video[:, 0])
    yield from _compare(_pred_values("pixels", made, ""), arrays)
  if "depth_gt" in arrays:
    made = depth_vectors(
      arrays["depth_pred"][..., None],
      arrays["depth_gt"][..., None],
      arrays["depth_mask"][..., None],
    )
    keep = np.isin(np.arange(made.num_examples), made.example)
    yield from _compare({"depth_keep": keep}, arrays)
    yield from _compare(_pred_values("depth", made, "_pred"), arrays)
    yield from _compare(_truth_values("depth", made), arrays)
  for task, make, inputs in (
    ("points", points_vectors, ("tracks", "visible")),
    ("boxes", boxes_vectors, ("boxes", "box_mask")),
  ):
    noun, mask = inputs
    if f"gt_{noun}" not in arrays:
      continue
    mask = arrays.get(f"gt_{mask}", arrays.get(mask))
    pred, truth = arrays[f"pred_{noun}"], arrays[f"gt_{noun}"]
    made = make(pred, truth, mask, arrays["track_mask"])
    if task == "points" and "keep_tracks" in arrays:
      keep = np.zeros(arrays["keep_tracks"].shape, bool)
      keep[made.example, made.track] = True
      yield Case("keep_tracks", keep, arrays["keep_tracks"])
    yield from _compare(_pred_values(task, made, "_pred"), arrays)
    yield from _compare(_truth_values(task, made), arrays)


def check_aggregate(arrays: Arrays) -> Iterator[Case]:
  """Statistics over samples and clips."""
  yield from _compare_aggregate(arrays["values"], arrays)


CHECKS: dict[str, Callable[[Arrays], Iterator[Case]]] = {
  "psnr": check_psnr,
  "absrel": check_absrel,
  "tapvid": check_tapvid,
  "aj_forecast": check_aj_forecast,
  "iou": check_iou,
  "fd": check_fd,
  "vectors": check_vectors,
  "aggregate": check_aggregate,
}


def _compare(
  values: Arrays, arrays: Arrays, kind: str = "relative"
) -> Iterator[Case]:
  for name, value in values.items():
    if name in arrays:
      yield Case(name, value, arrays[name], kind)


def _compare_aggregate(values, arrays: Arrays) -> Iterator[Case]:
  result = aggregate(values)
  names = {"n_examples": result.num_examples}
  for statistic in ("mean", "std", "max", "min"):
    names[f"ex_{statistic}"] = getattr(result, f"example_{statistic}")
    names[f"ds_{statistic}"] = getattr(result, statistic)
  yield from _compare(names, arrays)


def _tapvid_names(scores: TrackScores) -> Arrays:
  names = {
    "average_jaccard": scores.average_jaccard,
    "occlusion_accuracy": scores.occlusion_accuracy,
    "average_pts_within_thresh": scores.delta_avg,
  }
  for i, threshold in enumerate(THRESHOLDS_PIXELS):
    names[f"jaccard_{threshold}"] = scores.jaccard[..., i]
    names[f"pts_within_{threshold}"] = scores.within[..., i]
  return names


def _rows(arrays: Arrays, case: str, side: str) -> np.ndarray:
  if f"{case}__{side}" in arrays:
    return arrays[f"{case}__{side}"].astype(np.float64)
  factors = arrays[f"{case}__z_{side}"], arrays[f"{case}__w"]
  return factors[0].astype(np.float64) @ factors[1].astype(np.float64)


def _pred_values(task: str, made: Vectors, side: str) -> Arrays:
  """Forecast rows in the file's order: clip, sample, then track."""
  order = [
    made.pred[made.example == clip, sample]
    for clip in np.unique(made.example)
    for sample in range(made.num_samples)
  ]
  rows = np.concatenate(order) if order else made.pooled()
  return {
    f"{task}{side}_vec": rows,
    f"{task}{side}_var_time": var_time(rows, made.num_frames),
  }


def _truth_values(task: str, made: Vectors) -> Arrays:
  return {
    f"{task}_gt_vec": made.truth,
    f"{task}_gt_var_time": var_time(made.truth, made.num_frames),
  }


def check_file(path: Path) -> int:
  """Prints a line per case of a file.

  Args:
    path: an .npz file.

  Returns:
    The number of failures.
  """
  check = CHECKS.get(path.stem)
  if check is None:
    print(f"FAIL {path.name}: unknown file; known: {', '.join(CHECKS)}")
    return 1
  num_failed = num_cases = 0
  try:
    with np.load(path) as stored:
      arrays = dict(stored)
    for case in check(arrays):
      error = error_of(case)
      is_judged = case.kind != "note"
      is_good = error <= (EXACT if case.kind == "absolute" else RELATIVE)
      word = ("ok" if is_good else "FAIL") if is_judged else "note"
      kind = "relative" if case.kind == "note" else case.kind
      print(f"{word:4} {path.stem} {case.name}: {kind} error {error:.2e}")
      num_failed += is_judged and not is_good
      num_cases += 1
  except Exception as error:  # one bad file must not hide the others
    print(f"FAIL {path.name}: {type(error).__name__}: {error}")
    return num_failed + 1
  if not num_cases:
    print(f"FAIL {path.name}: holds no expected value that we know")
  return num_failed + (not num_cases)


def main() -> int:
  """Checks a folder and returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("folder", type=Path)
  folder = parser.parse_args().folder
  paths = sorted(folder.glob("*.npz"))
  if not paths:
    print(f"FAIL {folder}: no .npz file there")
    return 1
  num_failed = sum(check_file(path) for path in paths)
  print(f"{len(paths)} files, {num_failed} failures")
  return int(num_failed > 0)


if __name__ == "__main__":
  sys.exit(main())
