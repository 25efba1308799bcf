"""How far ours are from the paper's models, data and trainings.

Said of what the rows are, so that it is true of a study at any scale.
"""

from collections.abc import Sequence

from forecasting.report import paper
from forecasting.report.columns import order_tasks
from forecasting.report.models import Model, Study
from forecasting.report.results import Row

SIMULATED = "mujoco_scenes"
# What the paper scores each task on.
DATASETS = {
  "pixels": "scannet",
  "depth": "scannet",
  "points": "perception_test",
  "boxes": "waymo",
}
STEPS = 40_000  # of the paper's trainings, but for SigLIP's 160,000
_TINY = "_tiny"


def note(study: Study, task: str) -> str:
  """Returns a table's footnote: what the paper's numbers are of, beside ours.

  Args:
    study: the rows.
    task: of the table.
  """
  return f"paper: {_printed(_models(study, [task]))}; {_rest(study, [task])}"


def statement(study: Study) -> str:
  """Returns the same for all tasks, as sentences."""
  tasks = order_tasks(study.rows)
  ours = _rest(study, tasks)
  return (
    "The paper's numbers that stand beside ours are"
    f" {_printed(_models(study, tasks))}. {ours[0].upper()}{ours[1:]}."
  )


def _models(study: Study, tasks: Sequence[str]) -> list[Model]:
  """Returns the models that the paper has numbers for."""
  return [
    model
    for model in study.compared()
    if paper.paper_model(model) is not None
    and any(study.of(model, task) for task in tasks)
  ]


def _printed(models: Sequence[Model]) -> str:
  """Returns whose numbers the paper's are."""
  tiny = [model for model in models if model.backbone.endswith(_TINY)]
  other = [
    model
    for model in models
    if model not in tiny and paper.paper_name(model.backbone) is None
  ]
  if not models:
    return "none, as it has no model of these families"
  if not tiny and not other:
    return "the printed values of the same models"
  size = "hundreds to thousands of times as large"
  if len(tiny) == len(models):
    return f"the printed values of models of the same families, {size}"
  if len(other) == len(models):
    return "the printed values of models of the same families, of other sizes"
  parts = []
  for kind, how in ((tiny, size), (other, "of another size")):
    if kind:
      labels = ", ".join(dict.fromkeys(model.backbone for model in kind))
      parts.append(f"for {labels} of a model of the same family, {how}")
  return f"the printed values of the same models, but {' and '.join(parts)}"


def _rest(study: Study, tasks: Sequence[str]) -> str:
  """Returns on what ours were scored, for how long trained, what follows."""
  rows = [row for row in study.rows if row["task"] in tasks]
  data, is_same = _data(rows)
  text = f"ours were scored on {data}"
  steps = [row["step"] for row in rows if row.get("step")]
  if is_short := bool(steps) and max(steps) < STEPS:
    text += f" after trainings of at most {max(steps):,} steps of {STEPS:,}"
  names = [paper.paper_name(m.backbone) for m in _models(study, tasks)]
  if is_same and not is_short and names and None not in names:
    return f"{text}, which clips of it the paper does not list"
  return f"{text}; compare orders and signs, not values"


def _data(rows: Sequence[Row]) -> tuple[str, bool]:
  """Returns what rows were scored on, and whether the paper is scored on it."""
  found = {(row["task"], row.get("dataset")) for row in rows}
  names = {name for _, name in found}
  if all(DATASETS.get(task) == name for task, name in found):
    return f"the paper's data ({', '.join(sorted(names))})", True
  if names == {SIMULATED}:
    return "simulated clips", False
  if None in names:
    return "other clips", False
  return f"other clips ({', '.join(sorted(names))})", False
