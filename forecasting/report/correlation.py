"""Does forecasting follow perception? Figure 1c's normalization and Pearson r.

Per task, over the compared models, a value becomes its share of the best one:
v / max(v) where higher is better, min(v) / v where lower is better. The paper
does not say how it normalizes; tasks.md 5.8 chooses this.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from forecasting.metrics.bootstrap import clip_counts, percentile_interval
from forecasting.report.models import Model, Study, is_higher_better

FORECAST, PERCEPTION = "best", "perception"
POOLED = "pooled"
MIN_MODELS = 3  # two points always lie on a line


@dataclasses.dataclass(frozen=True)
class Correlation:
  """Pearson r with two 95 % intervals.

  Attributes:
    value: of all models on all clips.
    over_clips: ends of the interval if the clips are drawn again, models kept:
      how well r of these models is known.
    over_models: the same if the models are drawn again: how far it may hold for
      others. Wide for few models.
    models: compared ones.
  """

  value: float
  over_clips: tuple[float, float]
  over_models: tuple[float, float]
  models: tuple[Model, ...]

  @property
  def num_models(self) -> int:
    """How many are compared."""
    return len(self.models)


def normalize(
  values: Float[np.ndarray, "*R M"], higher_is_better: bool
) -> Float[np.ndarray, "*R M"]:
  """Returns each model's share of the best; models lie on the last axis."""
  if higher_is_better:
    return values / np.nanmax(values, axis=-1, keepdims=True)
  return np.nanmin(values, axis=-1, keepdims=True) / values


def pearson(
  x: Float[np.ndarray, "*R M"], y: Float[np.ndarray, "*R M"]
) -> Float[np.ndarray, "*R"]:
  """Returns Pearson's r along the last axis; NaN if a side is constant."""
  x = x - x.mean(axis=-1, keepdims=True)
  y = y - y.mean(axis=-1, keepdims=True)
  size = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.where(size > 0, (x * y).sum(-1) / size, np.nan)


def points(
  study: Study, models: Sequence[Model], task: str
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M"]]:
  """Returns normalized perception and best-of-S forecasting of a task."""
  higher = is_higher_better(study.rows, task)
  both = [
    np.array([study.value(model, task, name) for model in models])
    for name in (PERCEPTION, FORECAST)
  ]
  return tuple(normalize(values, higher) for values in both)


def correlations(
  study: Study,
  models: Sequence[Model],
  tasks: Sequence[str],
  *,
  num_replicates: int = 1000,
  seed: int = 0,
) -> dict[str, Correlation]:
  """Returns r of every task and of all tasks pooled.

  Args:
    study: the rows.
    models: compared ones.
    tasks: their names.
    num_replicates: bootstrap replicates.
    seed: of the resampling.

  Returns:
    Task, or 'pooled', to r. Tasks with fewer than 3 models that have both
    values are left out.
  """
  found, pairs, resampled = {}, {}, {}
  for task in tasks:
    kept = complete(study, models, task)
    if len(kept) < MIN_MODELS:
      continue
    pairs[task] = (kept, points(study, kept, task))
    resampled[task] = _resampled_points(study, kept, task, num_replicates, seed)
    x, y = pairs[task][1]
    found[task] = _correlation(
      float(pearson(x, y)),
      None if resampled[task] is None else pearson(*resampled[task]),
      _over_models({task: pairs[task]}, num_replicates, seed),
      kept,
    )
  if len(found) > 1:
    x, y = (
      np.concatenate([pair[1][side] for pair in pairs.values()])
      for side in (0, 1)
    )
    parts = list(resampled.values())
    clips = None
    if all(part is not None for part in parts):
      clips = pearson(
        *(np.concatenate([part[side] for part in parts], -1) for side in (0, 1))
      )
    found[POOLED] = _correlation(
      float(pearson(x, y)),
      clips,
      _over_models(pairs, num_replicates, seed),
      [m for m in models if any(m in kept for kept, _ in pairs.values())],
    )
  return found


def complete(study: Study, models: Sequence[Model], task: str) -> list[Model]:
  """Returns the models that have both values of a task."""
  return [
    model
    for model in models
    if not any(
      math.isnan(study.value(model, task, name))
      for name in (PERCEPTION, FORECAST)
    )
  ]


def _correlation(
  value: float,
  clips: Float[np.ndarray, "R"] | None,
  models: Float[np.ndarray, "R"],
  compared: Sequence[Model],
) -> Correlation:
  nothing = np.array([], np.float64)
  ends = [
    percentile_interval(value, nothing if x is None else x, 0)
    for x in (clips, models)
  ]
  clip_ends, model_ends = ((end.low, end.high) for end in ends)
  return Correlation(value, clip_ends, model_ends, tuple(compared))


def _resampled_points(
  study: Study,
  models: Sequence[Model],
  task: str,
  num_replicates: int,
  seed: int,
) -> tuple[np.ndarray, np.ndarray] | None:
  """Points of resampled clips, the same clips for all models and both axes."""
  sides = []
  higher = is_higher_better(study.rows, task)
  for name in (PERCEPTION, FORECAST):
    clips = [study.clips(model, task, name) for model in models]
    if any(x is None for x in clips) or len({len(x) for x in clips}) > 1:
      return None
    values = np.stack(clips, axis=1)  # clips x models
    counts = clip_counts(len(values), num_replicates, seed)
    is_known = ~np.isnan(values)
    totals = counts @ np.where(is_known, values, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
      sides.append(normalize(totals / (counts @ is_known), higher))
  return tuple(sides)


def _over_models(
  pairs: Mapping[str, tuple[Sequence[Model], tuple[np.ndarray, np.ndarray]]],
  num_replicates: int,
  seed: int,
) -> Float[np.ndarray, "R"]:
  """r of resampled models; a model comes with all its tasks."""
  models = sorted({m for kept, _ in pairs.values() for m in kept})
  rng = np.random.default_rng(seed)
  replicates = np.full(num_replicates, np.nan)
  for number in range(num_replicates):
    drawn = [models[i] for i in rng.integers(len(models), size=len(models))]
    x, y = [], []
    for kept, sides in pairs.values():
      index = [kept.index(model) for model in drawn if model in kept]
      x.append(sides[0][index])
      y.append(sides[1][index])
    x, y = np.concatenate(x), np.concatenate(y)
    if len(set(drawn)) >= MIN_MODELS:
      replicates[number] = pearson(x, y)
  return replicates
