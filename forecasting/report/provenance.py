"""How the compared backbones were pretrained, as far as the package knows."""

import json
import math
import struct
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from forecasting.report import columns as cols
from forecasting.report import groups, paper
from forecasting.report.models import Model, Study
from forecasting.report.tables import Cell, Heading, Line, Table

RELEASED = Path(str(resources.files("forecasting.backbones"))) / "released"


def training_table(study: Study, released: Path = RELEASED) -> Table:
  """Returns what each pretrained backbone learned from, and for how long.

  Args:
    study: the rows.
    released: folder of weights with a JSON file beside each that says how they
      were made.
  """
  records = _records(released)
  lines, seen = [], []
  for backbone, model in _backbones(study).items():
    digest = _digest(study, model)
    path, record = records.get(digest, (None, {}))
    fields = record.get("config", {})
    steps, batch = fields.get("steps"), _batch(fields)
    clips = Cell(cols.MISSING, reason="no record of how they were made")
    if steps and batch:
      seen.append(steps * batch)
      clips = Cell(f"{steps * batch:,}", f"{steps:,} × {batch}")
    cells = (
      Cell(_signals(model)),
      Cell(_parameters(backbone, path)),
      clips,
      _data(record),
    )
    lines.append(Line(backbone, model.weights, cells))
  return Table(
    "How the backbones were pretrained (Table 1)",
    tuple(
      Heading(name)
      for name in ("Learned from", "Parameters", "Clips seen", "Data")
    ),
    tuple(lines),
    tuple(_notes(seen)),
    "Backbone",
  )


def _notes(seen: list[int]) -> list[str]:
  notes = [
    "learned from: the paper's Table 1, or by its letters; parameters: of the"
    " encoder as shipped, or of Table 1; clips seen: steps × batch of the last"
    " stage, with repetition; data: with the fingerprint of the clips; –: not"
    " known of these weights"
  ]
  if seen and max(seen) > min(seen):
    notes.append(
      "pretraining was unequal: clips seen differ by a factor of"
      f" {max(seen) / min(seen):.3g}, so differences between families are also"
      " differences in training"
    )
  return notes


def _backbones(study: Study) -> dict[str, Model]:
  """Returns a model of every pretrained backbone."""
  found: dict[str, Model] = {}
  for model in study.compared():
    if model.weights == "pretrained":
      found.setdefault(model.backbone, model)
  return found


def _digest(study: Study, model: Model) -> str:
  """Returns the checksum of a model's weights; empty if rows disagree."""
  tasks = cols.order_tasks(study.rows)
  rows = [row for task in tasks for row in study.of(model, task)]
  digests = {str(row.get("weights_digest", "")) for row in rows}
  return digests.pop() if len(digests) == 1 else ""


def _records(released: Path) -> dict[str, tuple[Path, Mapping[str, Any]]]:
  """Returns checksum of weights to their path and how they were made."""
  found = {}
  for path in sorted(released.glob("*.json")):
    record = json.loads(path.read_text())
    if digest := record.get("sha256"):
      found[digest] = (path.with_suffix(".safetensors"), record)
  return found


def _batch(fields: Mapping[str, Any]) -> int | None:
  return fields.get("train", {}).get("batch_size")


def _signals(model: Model) -> str:
  letters = groups.signals(model)
  words = [word for key, word in groups.WORDS.items() if key in letters]
  return ", ".join(words) or cols.MISSING


def _parameters(backbone: str, path: Path | None) -> str:
  """Returns how many parameters an encoder has."""
  if path is not None and path.exists():
    return f"{count_parameters(path) / 1e6:.2g}M"
  row = paper.read_paper()["table1"].get(paper.paper_name(backbone), {})
  return row.get("params", cols.MISSING)


def count_parameters(path: Path) -> int:
  """Returns how many numbers a safetensors file holds, from its header."""
  with path.open("rb") as file:
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length))
  header.pop("__metadata__", None)
  return sum(math.prod(entry["shape"]) for entry in header.values())


def _data(record: Mapping[str, Any]) -> Cell:
  data = record.get("config", {}).get("data", {})
  if not data.get("name"):
    return Cell(cols.MISSING, reason="no record of how they were made")
  distinct = data.get("train_clips")
  note = f"{record.get('clips', 'unknown')}"
  if distinct:
    note += f", {distinct:,} clips"
  return Cell(data["name"], note)
