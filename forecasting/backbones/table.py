"""The table of backbones, as Markdown.

python -m forecasting.backbones.table
"""

import jax
import numpy as np

from forecasting.backbones.encode import parameter_shapes
from forecasting.backbones.spec import BackboneSpec
from forecasting.backbones.zoo import SPECS

COLUMNS = (
  "name",
  "source",
  "weights",
  "license",
  "parameters",
  "pixels",
  "range",
  "latents (t h w C)",
  "layer",
  "context",
)


def describe(spec: BackboneSpec) -> list[str]:
  """Returns the cells of a backbone, all but the number of parameters."""
  low, high = spec.value_range
  rows, columns = spec.frame_size
  if spec.checkpoint:
    weights = f"`{spec.checkpoint}`"
  elif spec.substitute:
    weights = f"not public; `{spec.substitute}`"
  else:
    weights = "random"
  return [
    f"`{spec.name}`",
    spec.source,
    weights,
    spec.license or "–",
    f"{rows} x {columns}" if rows != columns else str(rows),
    f"{low:.2g} to {high:.2g}",
    " ".join(map(str, (*spec.grid, spec.width))),
    spec.layer,
    spec.context_mode,
  ]


def count_parameters(spec: BackboneSpec) -> int:
  """Returns the number of parameters of the encoder."""
  leaves = jax.tree.leaves(parameter_shapes(spec))
  return sum(int(np.prod(leaf.shape)) for leaf in leaves)


def markdown() -> str:
  """Returns the table of all backbones, counting their parameters."""
  lines = [COLUMNS, ["---"] * len(COLUMNS)]
  for spec in SPECS.values():
    cells = describe(spec)
    count = f"{count_parameters(spec) / 1e6:.1f}M"
    lines.append([*cells[:4], count, *cells[4:]])
  return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
  print(markdown())
