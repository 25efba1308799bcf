"""How each finding of the paper is tested; `findings.py` says what it means."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from forecasting.report import correlation, groups
from forecasting.report.columns import order_tasks
from forecasting.report.findings import Finding, Statistic, against, missing
from forecasting.report.models import (
  DIFFUSION,
  REGRESSION,
  Model,
  Study,
  is_higher_better,
)
from forecasting.report.significance import (
  Difference,
  compare_groups,
  compare_matched,
  over_models,
)

# What counts as a match: at most this share of what pretraining gains in the
# task below the other. Source: our choice.
MARGIN = 0.25
_SHARE = "of what pretraining gains"
_MARGIN_NOTE = (
  f"in units of what pretraining gains in the task, from the best model of"
  f" random weights (raw patches if there is none) to the best pretrained one;"
  f" a match is at most {MARGIN} of it below (our choice)"
)


def all_findings(study: Study) -> list[Finding]:
  """Tests every finding on the rows of a study."""
  tasks = order_tasks(study.rows)
  return [test(study, tasks) for test in _TESTS]


def gain_of_pretraining(study: Study, task: str) -> float:
  """Returns how far pretraining gets best-of-S forecasts in a task.

  Args:
    study: the rows.
    task: which.

  Returns:
    The best pretrained model beyond the best of random weights, or beyond raw
    patches where no model has those; NaN without either, or if they are better.
  """
  found = {
    weights: [
      value
      for model in study.models(DIFFUSION)
      if model.weights == weights
      and not math.isnan(value := study.value(model, task, "best"))
    ]
    for weights in ("pretrained", "random", "none")
  }
  references = found["random"] or found["none"]
  if not found["pretrained"] or not references:
    return math.nan
  higher = is_higher_better(study.rows, task)
  best = max if higher else min
  gain = best(found["pretrained"]) - best(references)
  gain = gain if higher else -gain
  return gain if gain > 0 else math.nan


def _tracks(study: Study, tasks: Sequence[str]) -> Finding:
  """Forecasting tracks perception."""
  models = [m for m in study.compared() if m.weights == "pretrained"]
  found = correlation.correlations(study, models, tasks)
  return Finding(
    "Forecasting performance tracks perception.",
    "Pearson r of normalized best-of-S forecasting and perception over the"
    " pretrained models; intervals are over models drawn again, which also says"
    " how far it may hold for others",
    tuple(
      Statistic(task, r.value, *r.over_models, note=f"{r.num_models} models")
      for task, r in found.items()
    ),
  )


def _video(study: Study, tasks: Sequence[str]) -> Finding:
  """Video-trained beats image-only."""
  video = groups.members(study, groups.VIDEO, without=groups.IMAGE)
  image = groups.members(study, groups.IMAGE, without=groups.VIDEO)
  return Finding(
    "Video-trained models forecast better than image-only ones.",
    "difference of the groups' mean best-of-S in per cent of the latter's, by"
    f" paired bootstrap over clips; {groups.names(video)} against"
    f" {groups.names(image)}",
    tuple(
      _percent(task, compare_groups(study, video, image, task, "best"))
      for task in tasks
    ),
  )


def _synthesis(study: Study, tasks: Sequence[str]) -> Finding:
  """Synthesis-trained matches masked."""
  synthesis = groups.members(study, groups.SYNTHESIS, without=groups.MASKED)
  masked = groups.members(study, groups.MASKED, without=groups.SYNTHESIS)
  return Finding(
    "Synthesis-trained models match masked ones.",
    "difference of the groups' mean best-of-S, by paired bootstrap over clips,"
    f" {_MARGIN_NOTE}; {groups.names(synthesis)} against"
    f" {groups.names(masked)}",
    tuple(
      _match(
        study, task, compare_groups(study, synthesis, masked, task, "best")
      )
      for task in tasks
    ),
  )


def _language(study: Study, tasks: Sequence[str]) -> Finding:
  """Language doesn't help."""
  pairs = groups.by_language(study)
  compared = {model for models, _ in pairs for model in models}
  left = [
    model
    for model in groups.members(study, groups.LANGUAGE)
    if model not in compared
  ]
  swapped = [(without, language) for language, without in pairs]
  sides = "; ".join(
    f"{groups.names(without)} against {groups.names(language)}"
    for without, language in swapped
  )
  if left:
    sides += f"; nothing differs from {groups.names(left)} in language alone"
  return Finding(
    "Language supervision does not help forecasting.",
    "by how much models without language are better in mean best-of-S than"
    " those that differ by language alone in what they learned from, each such"
    " pair of groups counting the same, by paired bootstrap over clips,"
    f" {_MARGIN_NOTE}; {sides or 'no pairs'}",
    tuple(
      _match(study, task, compare_matched(study, swapped, task, "best"))
      for task in tasks
      if swapped
    ),
  )


def _percent(what: str, difference: Difference, **fields) -> Statistic:
  """Returns a difference in per cent of the other's value."""
  value, low, high = (100.0 * x for x in difference.relative)
  if math.isnan(low):
    return missing(what, "nothing to compare clip by clip", "%")
  return Statistic(what, value, low, high, "%", **fields)


def _match(study: Study, task: str, difference: Difference) -> Statistic:
  """Returns a difference in units of what pretraining gains."""
  gain = gain_of_pretraining(study, task)
  if math.isnan(difference.low):
    return missing(task, "nothing to compare clip by clip", _SHARE)
  if math.isnan(gain):
    return missing(task, "no reference that pretraining improves on", _SHARE)
  numbers = (difference.value, difference.low, difference.high)
  numbers = (x / gain for x in numbers)
  return Statistic(task, *numbers, _SHARE, threshold=-MARGIN)


def _ablated(study: Study, task: str, name: str) -> list[tuple[Model, Model]]:
  """Returns models with what regression makes of them, on the same clips."""
  pairs = []
  for model in groups.trained(study):
    other = dataclasses.replace(model, forecaster=REGRESSION)
    rows = [study.of(side, task) for side in (model, other)]
    clips = {str(row.get("eval_list_hash")) for side in rows for row in side}
    values = [study.value(side, task, name) for side in (model, other)]
    if len(clips) == 1 and not any(math.isnan(value) for value in values):
      pairs.append((model, other))
  return pairs


def _frechet(study: Study, tasks: Sequence[str]) -> Finding:
  """Diffusion beats regression on Fréchet distance."""
  statistics = []
  for task in tasks:
    logs = {}
    for pair in _ablated(study, task, "fd_1"):
      values = [study.value(side, task, "fd_1") for side in pair]
      if min(values) > 0:
        logs[pair[0]] = math.log(values[1] / values[0])
    statistics.append(_of_logs(task, logs, lambda x: 100 * math.expm1(x), "%"))
  return Finding(
    "Diffusion beats regression on Fréchet distance.",
    "by how many per cent regression's distance is above diffusion's on the"
    " same latents: mean log ratio over models with Student's interval over"
    " models; of one sample per clip, so that both have as many rows",
    tuple(statistics),
  )


def _best_of(study: Study, tasks: Sequence[str]) -> Finding:
  """Diffusion beats regression on best-of-S."""
  statistics = []
  for task in tasks:
    pairs = [
      pair
      for pair in _ablated(study, task, "best")
      if not any(study.clips(side, task, "best") is None for side in pair)
    ]
    single = [(a, _gain(study, a, b, task, "best")) for a, b in pairs]
    found = compare_matched(study, [([a], [b]) for a, b in pairs], task, "best")
    statistics.append(
      _percent(
        task,
        found,
        models=tuple(model for model, _ in single),
        against=against(single),
      )
    )
  return Finding(
    "Diffusion beats regression on best-of-10.",
    "difference of diffusion and regression on the same latents, mean over"
    " models, in per cent of regression's, by paired bootstrap over clips",
    tuple(statistics),
  )


def _dispersion(study: Study, tasks: Sequence[str]) -> Finding:
  """Forecasts are under-dispersed."""
  statistics = []
  for task in tasks:
    ratios = {
      model: study.value(model, task, "spread_skill")
      for model in groups.trained(study)
    }
    logs = {m: -math.log(ratio) for m, ratio in ratios.items() if ratio > 0}
    statistics.append(_of_logs(task, logs, lambda x: -math.expm1(-x)))
  return Finding(
    "Forecasts are under-dispersed.",
    "one minus the ratio of the samples' spread to the error of their mean,"
    " which is 1 for a calibrated forecaster: mean log ratio over models with"
    " Student's interval over models",
    tuple(statistics),
  )


def _of_logs(
  what: str,
  logs: Mapping[Model, float],
  shown: Callable[[float], float],
  unit: str = "",
) -> Statistic:
  """Returns the mean of log ratios, with those that are negative."""
  found = over_models(list(logs.values()))
  if math.isnan(found.low):
    return missing(what, "fewer than two models have it", unit)
  numbers = (shown(x) for x in (found.value, found.low, found.high))
  return Statistic(
    what,
    *numbers,
    unit,
    models=tuple(logs),
    against=against(list(logs.items())),
  )


def _gain(study: Study, a: Model, b: Model, task: str, name: str) -> float:
  """Returns by how much A is better than B in value."""
  gain = study.value(a, task, name) - study.value(b, task, name)
  return gain if is_higher_better(study.rows, task) else -gain


def _pretraining(study: Study, tasks: Sequence[str]) -> Finding:
  """Pretrained backbones perceive better than those that learned nothing."""
  statistics = []
  for task in tasks:
    own, other = _random_references(study, task)
    raw = [
      (model, reference)
      for model in groups.trained(study)
      for reference in study.models(DIFFUSION)
      if reference.weights == "none" and study.of(reference, task)
      if study.of(model, task)
    ]
    for pairs, what, is_reference in (
      (own, "the same network", False),
      (other, "other architecture", False),
      (raw, "for reference", True),
    ):
      if pairs:
        named = groups.names(dict.fromkeys(b for _, b in pairs))
        found = _perceives(study, task, pairs, f"{task}, {what}: {named}")
        found = dataclasses.replace(found, is_reference=is_reference)
        statistics.append(found)
    if not own and not other:
      statistics.append(missing(task, "no model has random weights", "%"))
  return Finding(
    "Pretraining pays: perception is above that of random weights.",
    "difference of perception to the same network with random weights, mean"
    " over models, in per cent, by paired bootstrap over clips; models without"
    " such a reference stand beside the best one of other architectures, and"
    " raw patches beside all, without counting",
    tuple(statistics),
  )


_Pairs = list[tuple[Model, Model]]


def _random_references(study: Study, task: str) -> tuple[_Pairs, _Pairs]:
  """Pairs models with their own random weights, the others with the best."""
  references = [
    model
    for model in study.references()
    if not math.isnan(study.value(model, task, "perception"))
  ]
  by_name = {model.backbone: model for model in references}
  sign = 1.0 if is_higher_better(study.rows, task) else -1.0
  best = max(
    references,
    key=lambda m: sign * study.value(m, task, "perception"),
    default=None,
  )
  own, other = [], []
  for model in groups.trained(study):
    if not study.of(model, task) or best is None:
      continue
    if model.backbone in by_name:
      own.append((model, by_name[model.backbone]))
    else:
      other.append((model, best))
  return own, other


def _perceives(study: Study, task: str, pairs: _Pairs, what: str) -> Statistic:
  """Compares perception of pairs of models."""
  single = [(a, _gain(study, a, b, task, "perception")) for a, b in pairs]
  strata = [([a], [b]) for a, b in pairs]
  return _percent(
    what,
    compare_matched(study, strata, task, "perception"),
    models=tuple(model for model, _ in single),
    against=against(single),
  )


_TESTS: tuple[Callable[[Study, Sequence[str]], Finding], ...] = (
  _tracks,
  _video,
  _synthesis,
  _language,
  _frechet,
  _best_of,
  _dispersion,
  _pretraining,
)
