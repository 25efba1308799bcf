"""Result rows by model: which backbone, which weights, which forecaster.

A study has rows of many backbones, tasks, forecasters and seeds. Here they are
grouped by what is compared, and averaged over seeds, clip by clip.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from forecasting.backbones.zoo import SPECS
from forecasting.report.results import Row, score

DIFFUSION = "flow"
REGRESSION = "regression"
NATIVE = "native"
ORACLE = "oracle_future"


@dataclasses.dataclass(frozen=True, order=True)
class Model:
  """A backbone with its weights, and what forecasts its latents.

  Attributes:
    backbone: of the zoo.
    weights: 'pretrained', 'random' or 'none' (raw patches).
    forecaster: as in the rows.
  """

  backbone: str
  weights: str
  forecaster: str

  @property
  def family(self) -> str:
    """Family of the backbone; its name if the zoo does not know it."""
    spec = SPECS.get(self.backbone)
    return spec.family if spec else self.backbone

  @property
  def label(self) -> str:
    """Name in tables and figures, without the usual forecaster."""
    label = self.backbone
    if self.weights == "random":
      label += " (random weights)"
    if self.forecaster == NATIVE:
      label += " (its own forecast)"
    return label


def model_of(row: Row) -> Model:
  """Returns what a row is of."""
  is_random = str(row.get("weights_digest", "")).startswith("random")
  weights = "random" if is_random else "pretrained"
  spec = SPECS.get(row["backbone"])
  if spec is not None and spec.family == "raw":
    weights = "none"
  return Model(row["backbone"], weights, row["forecaster"])


class Study:
  """Rows of one or several runs, found by model and task.

  Attributes:
    rows: all of them.
  """

  def __init__(self, rows: Iterable[Row]) -> None:
    """Groups rows.

    Args:
      rows: of any number of backbones, tasks, forecasters and seeds.
    """
    self.rows = list(rows)
    self._found: dict[tuple[Model, str], list[Row]] = {}
    for row in self.rows:
      self._found.setdefault((model_of(row), row["task"]), []).append(row)

  def models(self, *forecasters: str) -> list[Model]:
    """Returns the models with one of these forecasters, pretrained first."""
    order = {"pretrained": 0, "random": 1, "none": 2}
    found = {model for model, _ in self._found}
    return sorted(
      (model for model in found if model.forecaster in forecasters),
      key=lambda m: (order[m.weights], m.backbone, m.forecaster),
    )

  def compared(self) -> list[Model]:
    """Returns one model per line of the paper's tables."""
    return self.models(DIFFUSION, NATIVE)

  def references(self) -> list[Model]:
    """Returns the models with random weights, forecast or not."""
    forecast = [m for m in self.models(DIFFUSION) if m.weights == "random"]
    return forecast + self.readouts_alone()

  def readouts_alone(self) -> list[Model]:
    """Returns models with random weights of which only readouts are trained.

    They have no row of a forecaster; the oracle's say what they perceive.
    """
    forecast = self.models(DIFFUSION)
    return [
      model
      for model in self.models(ORACLE)
      if model.weights == "random"
      and dataclasses.replace(model, forecaster=DIFFUSION) not in forecast
    ]

  def of(self, model: Model, task: str) -> list[Row]:
    """Returns a model's rows of a task, one per seed, or an empty list."""
    return sorted(self._found.get((model, task), []), key=lambda r: r["seed"])

  def value(self, model: Model, task: str, name: str) -> float:
    """Returns a score's mean over seeds, NaN if there is none."""
    return mean(score(row, name) for row in self.of(model, task))

  def deviation(self, model: Model, task: str, name: str) -> float:
    """Returns a score's standard deviation over seeds; NaN for one seed."""
    return deviation(score(row, name) for row in self.of(model, task))

  def clips(
    self, model: Model, task: str, name: str
  ) -> Float[np.ndarray, "N"] | None:
    """Returns a score clip by clip, averaged over seeds.

    Args:
      model: whose.
      task: which.
      name: 'mean', 'best' or 'perception'.

    Returns:
      NaN for clips without a value; None if rows do not say, or are not of the
      same clips.
    """
    rows = self.of(model, task)
    values = [row.get("clips", {}).get(name) for row in rows]
    lists = {row.get("eval_list_hash") for row in rows}
    if not rows or None in values or len(lists) > 1:
      return None
    arrays = np.array(values, np.float64)  # None becomes NaN
    return arrays.mean(axis=0)

  def mixed(self) -> list[Model]:
    """Returns compared models of which several runs have the same seed.

    Baselines of one backbone may come from several runs of a study, such as
    that of W.A.L.T. and that of its own forecast; no table averages those.
    """
    compared = set(self.compared())
    return sorted(
      {
        model
        for (model, _), rows in self._found.items()
        if model in compared and len({row["seed"] for row in rows}) < len(rows)
      }
    )

  def clip_list(self, task: str) -> set[str]:
    """Returns the digests of the clip lists that a task was scored on."""
    return {
      str(row.get("eval_list_hash")) for row in self.rows if row["task"] == task
    }


def mean(values: Iterable[float]) -> float:
  """Returns the mean of those that are not NaN; NaN if there are none."""
  kept = [value for value in values if not math.isnan(value)]
  return sum(kept) / len(kept) if kept else math.nan


def deviation(values: Iterable[float]) -> float:
  """Returns the standard deviation of those that are not NaN, if of two."""
  kept = [value for value in values if not math.isnan(value)]
  return float(np.std(kept, ddof=1)) if len(kept) > 1 else math.nan


def is_higher_better(rows: Sequence[Row], task: str) -> bool:
  """Returns the direction of a task's metric."""
  return next(row["higher_is_better"] for row in rows if row["task"] == task)
