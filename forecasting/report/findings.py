"""The paper's findings as hypotheses, each with its statistic and verdict.

A finding has a statistic for every task, and both are 'held', 'not held' or
'undecided'. A task's statistic is one number of all models concerned with a
95 % interval, by paired bootstrap over clips or, where only models repeat, over
models; seeds are averaged before. It is decided if the interval lies on one
side of a threshold, mostly 0; positive is what the finding says. A finding is
held if at least half of its tasks are decided in its favor and none against it,
not held if at least half are decided against it or both kinds occur with more
against it than in favor, and else undecided.
"""

import dataclasses
import math
from collections.abc import Sequence

from forecasting.report.groups import names
from forecasting.report.models import Model

HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"


@dataclasses.dataclass(frozen=True)
class Statistic:
  """One number that a finding rests on.

  Attributes:
    what: it is of: the task, and more if a task has several.
    value: positive if the finding's way; NaN if there is none.
    low: lower end of its interval.
    high: upper end.
    unit: of the three.
    threshold: what the interval has to lie above, or below, to decide.
    models: that it is of, where each has a sign.
    against: those of them whose own number is against the finding.
    note: what else to know, such as why there is no number.
    is_reference: whether it stands beside the finding without counting.
  """

  what: str
  value: float
  low: float
  high: float
  unit: str = ""
  threshold: float = 0.0
  models: tuple[Model, ...] = ()
  against: tuple[Model, ...] = ()
  note: str = ""
  is_reference: bool = False

  @property
  def decided(self) -> int:
    """1 in favor, -1 against, 0 undecided."""
    return int(self.low > self.threshold) - int(self.high < self.threshold)

  @property
  def verdict(self) -> str:
    """'held', 'not held' or 'undecided' in this task."""
    return (UNDECIDED, HELD, NOT_HELD)[self.decided]

  @property
  def number(self) -> str:
    """The value and its interval as text; empty if there is none."""
    if math.isnan(self.low):
      return ""
    text = f"{self.value:+.3g} [{self.low:+.3g}, {self.high:+.3g}] {self.unit}"
    return text.rstrip()

  @property
  def remark(self) -> str:
    """Models against it, and the note."""
    parts = []
    if self.models and not math.isnan(self.low):
      count = len(self.models) - len(self.against)
      parts.append(f"{count} of {len(self.models)} models in favor")
    if self.against and not math.isnan(self.low):
      parts.append(f"against: {names(self.against)}")
    return "; ".join([*parts, *([self.note] if self.note else [])])

  def __str__(self) -> str:
    """Returns the statistic as a line of text."""
    parts = (self.number or "no number", self.verdict, self.remark)
    return f"{self.what}: " + "; ".join(part for part in parts if part)


@dataclasses.dataclass(frozen=True)
class Finding:
  """A hypothesis and what became of it.

  Attributes:
    claim: of the paper.
    test: how it was tested here.
    statistics: that it rests on, task by task.
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
    verdicts = [statistic.verdict for statistic in known]
    counts = ", ".join(
      f"{verdicts.count(verdict)} {verdict}"
      for verdict in (HELD, NOT_HELD, UNDECIDED)
    )
    return f"of {len(known)}: {counts}"

  @property
  def known(self) -> tuple[Statistic, ...]:
    """Statistics that count and that the rows suffice for."""
    return tuple(
      s for s in self.statistics if not math.isnan(s.low) and not s.is_reference
    )


def missing(what: str, why: str, unit: str = "") -> Statistic:
  """Returns the statistic of a task that the rows do not suffice for."""
  return Statistic(what, math.nan, math.nan, math.nan, unit, note=why)


def against(values: Sequence[tuple[Model, float]]) -> tuple[Model, ...]:
  """Returns the models whose own value is negative."""
  return tuple(model for model, value in values if value < 0)
