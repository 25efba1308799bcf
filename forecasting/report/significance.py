"""Is A better than B? Paired bootstrap over clips, averaged over seeds."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import scipy.special
from jaxtyping import Float

from forecasting.metrics.bootstrap import compare_means
from forecasting.metrics.frechet_bootstrap import replicate_interval
from forecasting.report.groups import Strata
from forecasting.report.models import Model, Study, is_higher_better

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"


@dataclasses.dataclass(frozen=True)
class Difference:
  """A minus B, such that positive is better whatever the metric.

  Attributes:
    value: of the difference.
    low: lower end of its 95 % interval.
    high: upper end.
    scale: size of B's value, to judge the difference by.
  """

  value: float
  low: float
  high: float
  scale: float = math.nan

  @property
  def verdict(self) -> str:
    """'better' or 'worse' if the interval leaves 0 out, else 'undecided'."""
    if self.low > 0:
      return BETTER
    if self.high < 0:
      return WORSE
    return UNDECIDED

  @property
  def relative(self) -> tuple[float, float, float]:
    """Value and ends as shares of B's value; NaN if that is 0."""
    if self.scale == 0:
      return (math.nan,) * 3
    return tuple(x / self.scale for x in (self.value, self.low, self.high))


UNKNOWN = Difference(math.nan, math.nan, math.nan)


def compare(
  study: Study, a: Model, b: Model, task: str, name: str
) -> Difference:
  """Compares two models on the clips of a task; arguments as `compare_groups`.

  Args:
    study: the rows.
    a: first model.
    b: second model.
    task: which.
    name: 'mean', 'best', 'perception', or 'fd_1', whose replicates are stored.
  """
  if name == "fd_1":
    return _compare_replicates(study, a, b, task)
  return compare_groups(study, [a], [b], task, name)


def leaders(
  study: Study, models: Sequence[Model], task: str, name: str
) -> set[Model]:
  """Returns the best models, as far as the clips tell them apart.

  Args:
    study: the rows.
    models: compared ones.
    task: which.
    name: as in `compare`.

  Returns:
    The model with the best value and those that are not decided to be worse.
    Only the first where rows do not have what a comparison needs.
  """
  values = {model: study.value(model, task, name) for model in models}
  values = {m: value for m, value in values.items() if not math.isnan(value)}
  if not values:
    return set()
  higher = name != "fd_1" and is_higher_better(study.rows, task)
  best = (max if higher else min)(values, key=values.get)
  found = {model: compare(study, best, model, task, name) for model in values}
  return {best} | {
    model
    for model, difference in found.items()
    if not math.isnan(difference.low) and difference.verdict != BETTER
  }


def pairs(
  study: Study, models: Sequence[Model], tasks: Sequence[str]
) -> list[tuple[str, str, Model, Model, Difference]]:
  """Compares every two models on every task.

  Args:
    study: the rows.
    models: compared ones.
    tasks: their names.

  Returns:
    (task, score, A, B, A minus B), without pairs that cannot be compared.
  """
  compared = [
    (task, name, a, b, compare(study, a, b, task, name))
    for task in tasks
    for name in ("mean", "best", "perception", "fd_1")
    for a, b in itertools.combinations(models, 2)
  ]
  return [entry for entry in compared if not math.isnan(entry[-1].low)]


def compare_groups(
  study: Study,
  a: Sequence[Model],
  b: Sequence[Model],
  task: str,
  name: str,
) -> Difference:
  """Compares the mean of some models with that of others, clip by clip.

  Args:
    study: the rows.
    a: first group.
    b: second group.
    task: which.
    name: 'mean', 'best' or 'perception'.

  Returns:
    NaN where a group is empty or rows have no values per clip.
  """
  return compare_matched(study, [(a, b)], task, name)


def compare_matched(
  study: Study, strata: Strata, task: str, name: str
) -> Difference:
  """Compares groups with others of their kind; each kind counts the same.

  Args:
    study: the rows.
    strata: pairs of a first and a second group.
    task: which.
    name: 'mean', 'best' or 'perception'.

  Returns:
    NaN where a group is empty, rows have no values per clip, or they are of
    different clips.
  """
  models = [model for pair in strata for side in pair for model in side]
  rows = [row for model in models for row in study.of(model, task)]
  if len({str(row.get("eval_list_hash")) for row in rows}) != 1:
    return UNKNOWN
  firsts, seconds = zip(*strata, strict=True)
  sides = [_mean_of(study, groups, task, name) for groups in (firsts, seconds)]
  if any(side is None for side in sides) or len(sides[0]) != len(sides[1]):
    return UNKNOWN
  higher = is_higher_better(study.rows, task)
  interval = compare_means(*sides, higher_is_better=higher).difference
  if math.isnan(interval.value):
    return UNKNOWN
  ends = (interval.low, interval.high)
  if not higher:
    ends = (-interval.high, -interval.low)
  scale = abs(float(np.nanmean(sides[1])))
  return Difference(interval.value if higher else -interval.value, *ends, scale)


def over_models(values: Sequence[float]) -> Difference:
  """Returns the mean with Student's 95 % interval, models being the sample.

  Args:
    values: one of each model; positive is better.

  Returns:
    NaN for fewer than 2 models.
  """
  count = len(values)
  if count < 2:
    return UNKNOWN
  value = float(np.mean(values))
  student = float(scipy.special.stdtrit(count - 1, 0.975))
  half = student * float(np.std(values, ddof=1)) / math.sqrt(count)
  return Difference(value, value - half, value + half)


def _mean_of(
  study: Study, groups: Sequence[Sequence[Model]], task: str, name: str
) -> Float[np.ndarray, "N"] | None:
  """Returns the mean over groups of their means, clip by clip."""
  sides = [_group(study, models, task, name) for models in groups]
  if any(side is None for side in sides) or len({len(x) for x in sides}) > 1:
    return None
  return np.mean(sides, axis=0)


def _group(
  study: Study, models: Sequence[Model], task: str, name: str
) -> Float[np.ndarray, "N"] | None:
  """Returns the mean over models of a score, clip by clip."""
  clips = [study.clips(model, task, name) for model in models]
  if not clips or any(x is None for x in clips):
    return None
  if len({len(x) for x in clips}) > 1:
    return None
  return np.mean(clips, axis=0)


def _compare_replicates(
  study: Study, a: Model, b: Model, task: str
) -> Difference:
  """Compares Fréchet distances of one sample by their stored replicates.

  Replicate k of every row of a task resamples the same clips, so differences
  are paired. Lower is better.
  """
  if len(study.clip_list(task)) != 1:
    return UNKNOWN
  sides = []
  for model in (a, b):
    rows = study.of(model, task)
    values = [row.get("fd_1_replicates") for row in rows]
    if not rows or None in values or len({len(x) for x in values}) > 1:
      return UNKNOWN
    sides.append(np.array(values, np.float64).mean(axis=0))
  if len(sides[0]) != len(sides[1]) or not len(sides[0]):
    return UNKNOWN
  means = [study.value(model, task, "fd_1") for model in (a, b)]
  value = means[1] - means[0]
  interval = replicate_interval(value, sides[1] - sides[0], 0)
  return Difference(value, interval.low, interval.high, abs(means[1]))
