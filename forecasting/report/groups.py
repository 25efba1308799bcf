"""What models learned from. Source: paper, Table 1."""

import dataclasses
from collections.abc import Iterable, Sequence

from forecasting.report import paper
from forecasting.report.models import DIFFUSION, Model, Study

IMAGE, VIDEO, MASKED, SYNTHESIS, LANGUAGE = "IVMSL"
WORDS = {
  IMAGE: "images",
  VIDEO: "video",
  MASKED: "masking",
  SYNTHESIS: "synthesis",
  LANGUAGE: "language",
}
# Families that the paper does not have, in its letters: V-JEPA 2 predicts
# features of masked places as V-JEPA does, NExT-Vid masked next frames.
OTHERS = {"next_vid": "V/M", "vjepa2": "V/M"}


def signals(model: Model) -> frozenset[str]:
  """Returns Table 1's letters of a model; none if it learned nothing."""
  if model.weights != "pretrained":
    return frozenset()
  # W.A.L.T. has learned the same whichever way it is asked for a forecast.
  name = paper.paper_model(dataclasses.replace(model, forecaster=DIFFUSION))
  row = paper.read_paper()["table1"].get(name, {})
  letters = row.get("type", OTHERS.get(model.family, ""))
  return frozenset(letter for letter in letters.split("/") if letter)


def trained(study: Study) -> list[Model]:
  """Returns the pretrained models that diffusion forecasts."""
  return [m for m in study.models(DIFFUSION) if m.weights == "pretrained"]


def members(study: Study, signal: str, without: str = "") -> list[Model]:
  """Returns the trained models that have a signal and not another one."""
  return [
    model
    for model in trained(study)
    if signal in signals(model) and without not in signals(model)
  ]


Strata = Sequence[tuple[Sequence[Model], Sequence[Model]]]


def by_language(study: Study) -> Strata:
  """Pairs models with language with those that lack nothing else of theirs.

  Image-text models stand beside image models, and so on, so that language is
  all that differs. Models without such a counterpart are left out.
  """
  groups: dict[frozenset[str], list[Model]] = {}
  for model in trained(study):
    groups.setdefault(signals(model), []).append(model)
  return [
    (models, groups[letters - {LANGUAGE}])
    for letters, models in groups.items()
    if LANGUAGE in letters and letters - {LANGUAGE} in groups
  ]


def names(models: Iterable[Model]) -> str:
  """Returns the models' labels as a list in words."""
  return ", ".join(model.label for model in models) or "none"
