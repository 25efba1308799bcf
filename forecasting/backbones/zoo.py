"""All frozen backbones by name.

To add a family, write its file beside `four_ds.py`, ending in a `FAMILY`, and
list it here; a golden in `tests/parity` then pins it. Nothing else in the
codebase knows the families.

Source: paper Table 1 for the choice of models.
"""

import difflib

from forecasting.backbones import (
  dinov2,
  four_ds,
  next_vid,
  raw_patches,
  siglip,
  videomae,
  videoprism,
  vjepa,
  vjepa2,
  walt,
)
from forecasting.backbones.spec import BackboneSpec, Family

FAMILIES: dict[str, Family] = {
  module.FAMILY.name: module.FAMILY
  for module in (
    dinov2,
    four_ds,
    next_vid,
    raw_patches,
    siglip,
    videomae,
    videoprism,
    vjepa,
    vjepa2,
    walt,
  )
}
SPECS: dict[str, BackboneSpec] = {
  spec.name: spec for family in FAMILIES.values() for spec in family.specs
}


def get_spec(name: str) -> BackboneSpec:
  """Returns the spec of a backbone.

  Args:
    name: as in `config.backbone.name`.

  Raises:
    ValueError: no backbone has this name; the nearest is suggested.
  """
  if name in SPECS:
    return SPECS[name]
  near = difflib.get_close_matches(name, SPECS, n=1, cutoff=0.0)
  raise ValueError(
    f"unknown backbone {name!r}; did you mean {near[0]!r}? Known:"
    f" {', '.join(sorted(SPECS))}."
  )
