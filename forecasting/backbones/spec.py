"""What a backbone is, as data, and what a family of them provides.

A family file (`four_ds.py`, `videomae.py`, ...) holds its network, its sizes
and the renaming of its official checkpoints, and ends in one `Family`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

# Mean and standard deviation of ImageNet, on which many were trained.
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

# Where an array of a checkpoint goes: path of the parameter, joined by '/', and
# what to do to the array on the way.
Route = tuple[str, Callable[[np.ndarray], np.ndarray]]


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
  """What the rest of the codebase needs to know about a backbone.

  Attributes:
    name: as in `config.backbone.name`.
    family: which network runs it.
    resolution: rows and columns of its frames, in pixels; a pair for frames
      that are not square.
    num_frames: frames of a full clip.
    tubelet: frames per latent slot.
    patch: rows and columns of pixels per token.
    width: channels of a latent.
    depth: blocks of the encoder.
    heads: attention heads.
    mlp_dim: hidden width of the MLP.
    mean: per channel, subtracted from frames in [0, 1].
    std: per channel, divides after that.
    layer: 'final' (after the last block and the model's own norm), or a
      relative depth as text, by the family's own rule.
    context_mode: how the context frames are encoded alone: 'crop_pos' runs
      them as a short clip by the family's own rule for positions, 'pad_last'
      repeats the last one up to a full clip.
    stochastic: whether the latents depend on a random key per clip.
    sizes: what else fixes the shapes of the family's parameters.
    options: what a user may choose beside them, with its defaults; fields of
      `config.backbone.options`.
    source: repository or paper that the network follows.
    license: of the released weights.
    checkpoint: file of the released weights; empty if none were released.
    download: where a user gets it, with its size; empty if it is shipped with
      the package.
    substitute: for weights that were never released, the nearest backbone
      whose weights are public.
  """

  name: str
  family: str
  resolution: int | tuple[int, int]
  num_frames: int
  tubelet: int
  patch: int
  width: int
  depth: int
  heads: int
  mlp_dim: int
  mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
  std: tuple[float, float, float] = (1.0, 1.0, 1.0)
  layer: str = "final"
  context_mode: str = "crop_pos"
  stochastic: bool = False
  sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  source: str = ""
  license: str = ""
  checkpoint: str = ""
  download: str = ""
  substitute: str = ""

  @property
  def frame_size(self) -> tuple[int, int]:
    """Rows and columns of a frame."""
    size = self.resolution
    return (size, size) if isinstance(size, int) else size

  @property
  def grid(self) -> tuple[int, int, int]:
    """Slots, rows and columns of the latents of a full clip."""
    rows, columns = self.frame_size
    slots = self.num_frames // self.tubelet
    return slots, rows // self.patch, columns // self.patch

  @property
  def value_range(self) -> tuple[float, float]:
    """Least and greatest pixel value after mean and std."""
    pairs = list(zip(self.mean, self.std, strict=True))
    return min((0 - m) / s for m, s in pairs), max(
      (1 - m) / s for m, s in pairs
    )


def spec_maker(**shared: Any) -> Callable[..., BackboneSpec]:
  """Returns the function that makes the specs of one family.

  Args:
    **shared: fields that its backbones have in common.

  Returns:
    (name, width, depth, heads, mlp_dim, **fields) -> spec of 16 frames, as the
    paper has them; `fields` replace the shared ones.
  """

  def make(
    name: str, width: int, depth: int, heads: int, mlp_dim: int, **fields: Any
  ) -> BackboneSpec:
    sizes = {"width": width, "depth": depth, "heads": heads, "mlp_dim": mlp_dim}
    return BackboneSpec(
      name=name, **({"num_frames": 16} | sizes | shared | fields)
    )

  return make


def nearest_block(relative_depth: float, depth: int) -> int:
  """Returns the number of blocks nearest to a relative depth, at least 1."""
  return max(1, round(relative_depth * depth))


@dataclasses.dataclass(frozen=True)
class Family:
  """One architecture: its network and its checkpoints.

  Attributes:
    name: as in `BackboneSpec.family`.
    build: (spec, dtype of the matrix products) -> network without parameters.
      Its method `latents(video, num_blocks, keys)` takes normalized frames
      `[B T H W 3]`, the number of blocks to compute (all of them: the model's
      own final norm follows, if it has one) and one random key per clip, which
      only a stochastic encoder uses; it returns latents `[B t h w C]`.
    route: (name of an array in a checkpoint, spec) -> the parameters it fills.
      An empty list for arrays that this encoder has no use for, None for names
      that do not belong to the family.
    specs: its backbones.
    containers: keys under which `.pth` files keep the weights, best first; the
      option 'weights' of a spec, unless it is 'default', names another one.
    blocks_for_depth: (relative depth, depth) -> number of blocks.
  """

  name: str
  build: Callable[[BackboneSpec, Any], nn.Module]
  route: Callable[[str, BackboneSpec], Sequence[Route] | None]
  specs: tuple[BackboneSpec, ...]
  containers: tuple[str, ...] = ()
  blocks_for_depth: Callable[[float, int], int] = nearest_block
