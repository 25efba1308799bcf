"""The paper's findings as hypotheses, each with its statistic and verdict.

A finding is 'held', 'not held' or 'undecided'. Statistics are differences
between models, or groups of models, on the same clips with 95 % paired
bootstrap intervals, averaged over seeds; positive is what the finding says.
Where a finding has several statistics (one per task, or per task and model), it
is held if at least half of them are decided in its favor and none against it,
not held if at least half are decided against it or both kinds occur with more
against it than in favor, and else undecided.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from forecasting.report import correlation
from forecasting.report.columns import order_tasks
from forecasting.report.models import (
  DIFFUSION,
  REGRESSION,
  Model,
  Study,
)
from forecasting.report.significance import (
  UNKNOWN,
  Difference,
  compare,
  compare_groups,
)

HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"
# What counts as a match: at most this share below the other (our choice).
MARGIN = 0.05

# What the families were trained on and how.
IMAGE = {"dinov2", "siglip"}
VIDEO = {"4ds", "videomae", "videoprism", "vjepa", "vjepa2", "walt", "next_vid"}
MASKED = {"4ds", "videomae", "vjepa"}
SYNTHESIS = {"walt"}
LANGUAGE = {"siglip", "videoprism"}


@dataclasses.dataclass(frozen=True)
class Statistic:
  """One number that a finding rests on.

  Attributes:
    what: it is of.
    value: positive if the finding's way.
    low: lower end of its interval.
    high: upper end.
    unit: of the three.
    threshold: what the interval has to lie above, or below, to decide.
  """

  what: str
  value: float
  low: float
  high: float
  unit: str = ""
  threshold: float = 0.0

  @property
  def decided(self) -> int:
    """1 in favor, -1 against, 0 undecided."""
    return int(self.low > self.threshold) - int(self.high < self.threshold)

  def __str__(self) -> str:
    """Returns the statistic as a line of text."""
    text = f"{self.what}: {self.value:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"
    return f"{text} {self.unit}".rstrip()


@dataclasses.dataclass(frozen=True)
class Finding:
  """A hypothesis and what became of it.

  Attributes:
    claim: of the paper.
    test: how it was tested here.
    statistics: that it rests on; empty if the rows do not suffice.
  """

  claim: str
  test: str
  statistics: tuple[Statistic, ...]

  @property
  def verdict(self) -> str:
    """'held', 'not held' or 'undecided'; see the module."""
    known = self.known
    favor = sum(s.decided > 0 for s in known)
    against = sum(s.decided < 0 for s in known)
    if known and not against and 2 * favor >= len(known):
      return HELD
    if known and (2 * against >= len(known) or against > favor > 0):
      return NOT_HELD
    return UNDECIDED

  @property
  def summary(self) -> str:
    """How many statistics went which way."""
    known = self.known
    if not known:
      return "the rows do not have what this test needs"
    favor = sum(s.decided > 0 for s in known)
    against = sum(s.decided < 0 for s in known)
    return (
      f"of {len(known)}: {favor} in favor, {against} against,"
      f" {len(known) - favor - against} undecided"
    )

  @property
  def known(self) -> tuple[Statistic, ...]:
    """Statistics that the rows suffice for."""
    return tuple(s for s in self.statistics if not math.isnan(s.low))


def all_findings(study: Study) -> list[Finding]:
  """Tests every finding on the rows of a study."""
  tasks = order_tasks(study.rows)
  return [test(study, tasks) for test in _TESTS]


def _trained(study: Study, *families: set[str]) -> list[Model]:
  """Returns pretrained models, forecast by diffusion, of all these sets."""
  return [
    model
    for model in study.models(DIFFUSION)
    if model.weights == "pretrained"
    and all(model.family in family for family in families)
  ]


def _statistic(
  what: str, difference: Difference, threshold: float = 0.0
) -> Statistic:
  """Returns a difference in per cent of the other's value."""
  value, low, high = (100.0 * x for x in difference.relative)
  return Statistic(what, value, low, high, "%", threshold)


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
      Statistic(f"r, {task} ({r.num_models} models)", r.value, *r.over_models)
      for task, r in found.items()
    ),
  )


def _groups(
  claim: str,
  test: str,
  a: Callable[[Study], Sequence[Model]],
  b: Callable[[Study], Sequence[Model]],
  threshold: float = 0.0,
  sign: float = 1.0,
) -> Callable[[Study, Sequence[str]], Finding]:
  """Returns a test that compares two groups' best-of-S on every task."""

  def run(study: Study, tasks: Sequence[str]) -> Finding:
    statistics = []
    for task in tasks:
      found = compare_groups(study, a(study), b(study), task, "best")
      if sign < 0:
        found = dataclasses.replace(
          found, value=-found.value, low=-found.high, high=-found.low
        )
      statistics.append(_statistic(task, found, threshold))
    return Finding(claim, test, tuple(statistics))

  return run


def _not_language(study: Study) -> list[Model]:
  """Returns models without language, of the kinds that language models are."""
  language = _trained(study, LANGUAGE)
  wanted = set()
  for model in language:
    wanted |= IMAGE if model.family in IMAGE else VIDEO - SYNTHESIS
  return _trained(study, wanted - LANGUAGE)


def _diffusion(study: Study, tasks: Sequence[str]) -> Finding:
  """Diffusion beats regression on Fréchet distance and best-of-S."""
  statistics = []
  for task in tasks:
    for model in _trained(study):
      other = dataclasses.replace(model, forecaster=REGRESSION)
      for name, label in (("fd_1", "FD₁"), ("best", "best")):
        found = compare(study, model, other, task, name)
        if found is not UNKNOWN:
          what = f"{task}, {model.label}, {label}"
          statistics.append(_statistic(what, found))
  return Finding(
    "Diffusion beats regression on Fréchet distance and best-of-10.",
    "difference of diffusion and regression on the same latents; Fréchet"
    " distances of one sample per clip each, so that both have as many rows",
    tuple(statistics),
  )


def _dispersion(study: Study, tasks: Sequence[str]) -> Finding:
  """Forecasts are under-dispersed."""
  statistics = []
  for task in tasks:
    for model in _trained(study):
      rows = study.of(model, task)
      entries = [row["scores"].get("spread_skill") for row in rows]
      if not entries or any(
        entry is None or entry.get("low") is None for entry in entries
      ):
        continue
      count = len(entries)
      value, low, high = (
        sum(entry[end] for entry in entries) / count
        for end in ("value", "low", "high")
      )
      what = f"{task}, {model.label}, 1 - spread/skill"
      statistics.append(Statistic(what, 1 - value, 1 - high, 1 - low))
  return Finding(
    "Forecasts are under-dispersed.",
    "one minus the ratio of the samples' spread to the error of their mean,"
    " which is 1 for a calibrated forecaster",
    tuple(statistics),
  )


def _pretraining(study: Study, tasks: Sequence[str]) -> Finding:
  """Pretrained backbones perceive better than those that learned nothing."""
  references = [
    model for model in study.models(DIFFUSION) if model.weights == "random"
  ]
  statistics = []
  for task in tasks:
    for model in _trained(study):
      same = [r for r in references if r.backbone == model.backbone]
      for reference in same or references[:1]:
        found = compare(study, model, reference, task, "perception")
        what = f"{task}, {model.label} over {reference.label}"
        statistics.append(_statistic(what, found))
  return Finding(
    "Pretraining pays: perception is above that of random weights.",
    "difference of perception to the same backbone with random weights, or to"
    " the first random one if there is none of it",
    tuple(statistics),
  )


_TESTS: tuple[Callable[[Study, Sequence[str]], Finding], ...] = (
  _tracks,
  _groups(
    "Video-trained models forecast better than image-only ones.",
    "difference of the groups' mean best-of-S in per cent",
    lambda study: _trained(study, VIDEO),
    lambda study: _trained(study, IMAGE),
  ),
  _groups(
    "Synthesis-trained models match masked ones.",
    f"difference of the groups' mean best-of-S in per cent, above"
    f" -{MARGIN:.0%}",
    lambda study: _trained(study, SYNTHESIS),
    lambda study: _trained(study, MASKED),
    threshold=-100.0 * MARGIN,
  ),
  _groups(
    "Language supervision does not help forecasting.",
    "by how much models without language, of the same kinds of data, are"
    f" better in mean best-of-S, above -{MARGIN:.0%}",
    lambda study: _trained(study, LANGUAGE),
    _not_language,
    threshold=-100.0 * MARGIN,
    sign=-1.0,
  ),
  _diffusion,
  _dispersion,
  _pretraining,
)
