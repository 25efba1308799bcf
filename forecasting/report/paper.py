"""The paper's numbers beside ours. Source: paper, Tables 1, 2, 3 and 6."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forecasting.report import columns as cols
from forecasting.report.models import NATIVE, Model
from forecasting.report.results import Row, score
from forecasting.report.tables import Cell, Heading, Line, Table

_PAPER = Path(__file__).with_name("paper_results.json")

# Our backbone name to the paper's, where the spelling differs by more than
# punctuation and case: the sizes of Table 1.
ALIASES = {
  "walt": "WALT 500M",
  "nwalt": "N-WALT 500M",
  "dinov2_l": "DINOv2",
  "siglip_g_opt": "SigLIP",
  "videoprism_g": "VideoPrism",
  "vjepa_l": "VJEPA",
  "videomae_h": "VideoMAE",
  "videomaev2_g": "VideoMAEv2",
  "walt_419m": "WALT 500M",
}
# The paper's models of our families, for backbones that are none of its own;
# the larger one where it has two.
FAMILIES = {
  "4ds": "4DS-e",
  "dinov2": "DINOv2",
  "siglip": "SigLIP",
  "videomae": "VideoMAE",
  "videoprism": "VideoPrism",
  "vjepa": "VJEPA",
  "walt": "WALT 500M",
}
_SCORES = ("mean", "std", "best", "perception")
_DISTRIBUTION = (("fd", "fd"), ("var", "var_time"))


def read_paper() -> dict[str, Any]:
  """Returns the paper's printed numbers."""
  return json.loads(_PAPER.read_text())


def paper_name(backbone: str) -> str | None:
  """Returns what the paper calls a backbone, None if it has no row."""
  names = read_paper()["per_example"]
  plain = {_plain(name): name for name in names}
  plain |= {_plain(alias): name for alias, name in ALIASES.items()}
  return plain.get(_plain(backbone))


def paper_model(model: Model) -> str | None:
  """Returns the paper's model to hold ours against.

  Args:
    model: ours.

  Returns:
    Its own name in the paper, or else the model of the same family; None if the
    paper has neither, or the model learned nothing.
  """
  if model.weights != "pretrained":
    return None
  if model.forecaster == NATIVE:
    return "N-WALT 500M"
  if (name := paper_name(model.backbone)) is not None:
    return name
  if model.backbone.startswith("videomaev2"):
    return "VideoMAEv2"
  return FAMILIES.get(model.family)


def printed_value(
  table: str, model: Model, task: str, key: str
) -> float | None:
  """Returns what the paper printed for a model, or one of its family.

  Args:
    table: 'per_example', 'distribution' or 'regression'.
    model: ours.
    task: which.
    key: of the printed value.

  Returns:
    None if the paper has no such number, or the model learned nothing.
  """
  name = paper_model(model)
  return read_paper()[table].get(name, {}).get(task, {}).get(key)


def paper_table(rows: Sequence[Row]) -> Table | None:
  """Returns ours beside the paper's for one task and backbone.

  Args:
    rows: of one task and one backbone.

  Returns:
    None if the paper has no such backbone or task.
  """
  name, task = paper_name(rows[0]["backbone"]), rows[0]["task"]
  data = read_paper()
  if name is None or task not in data["per_example"][name]:
    return None
  truth = data["distribution"]["GT"][task]
  printed = {f"paper: {name}": data["per_example"][name][task]}
  printed[f"paper: {name}"] |= data["distribution"][name][task]
  if name in data["regression"]:
    printed[f"paper: {name}, regression"] = data["regression"][name][task]
  printed["paper: truth"] = truth
  ours = [row for row in cols.order_rows(rows) if row["kind"] == "trained"]
  lines = [
    Line(
      label,
      "paper",
      tuple(
        _cell(values.get(key))
        for key in (*_SCORES, *(key for key, _ in _DISTRIBUTION))
      ),
    )
    for label, values in printed.items()
  ]
  keys = (*_SCORES, *(key for _, key in _DISTRIBUTION))
  lines += [
    Line(
      f"ours: {row['forecaster']} [S={row['num_samples']}]",
      "trained",
      tuple(_cell(score(row, key)) for key in keys),
    )
    for row in ours
  ]
  headings = [Heading(h) for h in ("Mean", "Std", "Best", "Perception", "FD")]
  return Table(
    f"{task}: {name} in the paper and here",
    (*headings, Heading("Var (ours: in time)")),
    tuple(lines),
  )


def _cell(value: float | None) -> Cell:
  if value is None or value != value:
    return Cell(cols.MISSING, reason="not printed" if value is None else "")
  return Cell(f"{value:.4g}")


def _plain(name: str) -> str:
  return "".join(c for c in name.lower() if c.isalnum())
