"""The frozen backbones as data: name -> spec.

To add a backbone, add its spec here, its network beside `four_ds.py`, its key
names to `weights.py` and its branch to `encode.build_network`; a golden in
`tests/parity` then pins it. Nothing else in the codebase knows the families.

Source: paper Table 1 for the choice of models; arXiv 2412.15212 for 4DS sizes.
"""

import dataclasses
import difflib


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
  """What the rest of the codebase needs to know about a backbone.

  Attributes:
    name: as in `config.backbone.name`.
    family: which network runs it.
    resolution: rows and columns of its square frames, in pixels.
    num_frames: frames of a full clip.
    tubelet: frames per latent slot.
    patch: rows and columns of pixels per token.
    width: channels of a latent.
    depth: blocks of the encoder.
    heads: attention heads.
    mlp_dim: hidden width of the MLPs.
    value_range: of the pixels after mean and std.
    mean: per channel, subtracted from frames in [0, 1].
    std: per channel, divides after that.
    layer: 'final', or a relative depth as text, by the family's own rule.
    context_mode: how the context frames are encoded alone: 'crop_pos' runs
      them as a short clip with the first rows of the position table,
      'pad_last' repeats the last one up to a full clip.
    license: of the released weights.
    checkpoint: file of the released weights; empty if none were released.
    download: where a user gets it, with its size; empty if it is shipped with
      the package.
  """

  name: str
  family: str
  resolution: int
  num_frames: int
  tubelet: int
  patch: int
  width: int
  depth: int
  heads: int
  mlp_dim: int
  value_range: tuple[float, float] = (0.0, 1.0)
  mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
  std: tuple[float, float, float] = (1.0, 1.0, 1.0)
  layer: str = "0.95"
  context_mode: str = "crop_pos"
  license: str = ""
  checkpoint: str = ""
  download: str = ""

  @property
  def grid(self) -> tuple[int, int, int]:
    """Slots, rows and columns of the latents of a full clip."""
    side = self.resolution // self.patch
    return self.num_frames // self.tubelet, side, side


_BUCKET = "https://storage.googleapis.com/representations4d/checkpoints"
_RELEASED = "CC-BY-4.0"


def _four_ds(
  name: str, width: int, depth: int, heads: int, mlp_dim: int, **fields: str
) -> BackboneSpec:
  """Returns the spec of one of the published sizes, all at 224 pixels."""
  return BackboneSpec(
    name=name,
    family="4ds",
    resolution=224,
    num_frames=16,
    tubelet=2,
    patch=16,
    width=width,
    depth=depth,
    heads=heads,
    mlp_dim=mlp_dim,
    **fields,
  )


_SPECS = (
  BackboneSpec(
    name="4ds_tiny",
    family="4ds",
    resolution=64,
    num_frames=16,
    tubelet=2,
    patch=8,
    width=128,
    depth=8,
    heads=2,
    mlp_dim=512,
    license="Apache-2.0",
    checkpoint="4ds_tiny.safetensors",
  ),
  _four_ds(
    "4ds_b",
    768,
    12,
    12,
    3072,
    license=_RELEASED,
    checkpoint="scaling4d_dist_b.npz",
    download=f"{_BUCKET}/scaling4d_dist_b.npz (88M parameters, 334 MB)",
  ),
  _four_ds("4ds_l", 1024, 24, 16, 4096),
  _four_ds("4ds_h", 1280, 32, 16, 5120),
  _four_ds(
    "4ds_e",
    1792,
    56,
    16,
    15360,
    license=_RELEASED,
    checkpoint="scaling4d_e.npz",
    download=f"{_BUCKET}/scaling4d_e.npz (3.8B parameters, 14 GB)",
  ),
)
SPECS = {spec.name: spec for spec in _SPECS}


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
