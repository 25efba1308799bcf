"""DINOv2 (arXiv 2304.07193), with and without registers, frame by frame.

Patches of single frames, a class token, learned positions that are resampled
from the grid of pretraining, pre-norm blocks with layer scale and erf GELU
(SwiGLU in the largest), a final norm. Latents are the patch tokens.

The official code resamples positions to 0.1 more than the grid, transformers'
to the grid: `options.pos_interp`. Models with registers (arXiv 2309.16588) are
resampled to the grid, antialiased, by both.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Float

from forecasting.backbones.four_ds import PatchKernel, to_patches
from forecasting.backbones.framewise import (
  AUTOMATIC,
  encode_frames,
  frames_at_once,
)
from forecasting.backbones.resampling import (
  resample,
  torch_bicubic,
  torch_bicubic_antialiased,
)
from forecasting.backbones.spec import IMAGENET, BackboneSpec, Family, Route
from forecasting.backbones.torch_names import (
  OFFICIAL,
  Layout,
  convolution,
  find,
  from_heads,
  linear,
  norm,
  projections,
  same,
  stacked,
  strip,
  transposed,
  unbatched,
)
from forecasting.backbones.vit import BlockConfig, Transformer
from forecasting.shapes import Array

POSITION_RULES = ("official", "hf")


class DinoV2(nn.Module):
  """The encoder.

  Attributes:
    patch: rows and columns of a patch.
    grid: rows and columns of patches of a frame.
    table: rows, and columns, of the position table.
    width: features of a token.
    depth: number of blocks that own parameters.
    block: of every block.
    num_registers: tokens that hold no place of the frame.
    offset: added to the grid where it scales the table.
    antialias: whether the table is antialiased where it shrinks.
    frames_at_once: see `framewise.frames_at_once`.
  """

  patch: int
  grid: tuple[int, int]
  table: int
  width: int
  depth: int
  block: BlockConfig
  num_registers: int = 0
  offset: float = 0.1
  antialias: bool = False
  frames_at_once: int = AUTOMATIC

  def setup(self) -> None:
    """Creates the parts; initial values as in the reference."""
    self.patch_embedding = PatchKernel((1, self.patch, self.patch), self.width)
    small, shape = nn.initializers.normal(0.02), (self.width,)
    self.class_token = self.param("class_token", small, shape)
    self.class_position = self.param("class_position", small, shape)
    self.positions = self.param(
      "positions", small, (self.table, self.table, self.width)
    )
    if self.num_registers:
      self.registers = self.param(
        "registers", small, (self.num_registers, self.width)
      )
    self.encoder = Transformer(self.depth, self.block, final_norm=True)

  def frame_positions(self) -> Float[Array, "h w D"]:
    """Returns the position of every patch."""
    if self.grid == (self.table, self.table):
      return self.positions
    rule = torch_bicubic_antialiased if self.antialias else torch_bicubic
    rules = [
      rule(self.table, n, (n + self.offset) / self.table) for n in self.grid
    ]
    return resample(self.positions, *rules)

  def __call__(
    self,
    frames: Float[Array, "B H W 3"],
    num_blocks: int | None = None,
    change: Callable[[jax.Array], jax.Array] | None = None,
  ) -> Float[Array, "B n D"]:
    """Encodes frames.

    Args:
      frames: normalized.
      num_blocks: blocks to compute; None or all: the final norm follows.
      change: applied to the embedded patches before they get their positions;
        masked pretraining hides some.

    Returns:
      The class token, the registers, the patches.
    """
    patches = to_patches(frames[:, None], (1, self.patch, self.patch))
    positions = rearrange(self.frame_positions(), "h w D -> (h w) D")
    embedded = self.patch_embedding(patches)
    if change is not None:
      embedded = change(embedded)
    tokens = embedded + positions
    first = (self.class_token + self.class_position)[None]
    if self.num_registers:
      first = jnp.concatenate([first, self.registers])
    first = repeat(first, "n D -> B n D", B=len(frames))
    return self.encoder(jnp.concatenate([first, tokens], axis=1), num_blocks)

  def latents(
    self,
    video: Float[Array, "B T H W 3"],
    num_blocks: int,
    keys: jax.Array | None = None,
  ) -> Float[Array, "B T h w D"]:
    """Encodes clips; see `spec.Family`."""
    del keys
    h, w = self.grid
    first = 1 + self.num_registers

    def encode(network: DinoV2, frames: jax.Array) -> jax.Array:
      tokens = network(frames, num_blocks)[:, first:]
      return rearrange(tokens, "f (h w) D -> f h w D", h=h)

    count = frames_at_once(
      self.frames_at_once, video.shape, first + h * w, self.block
    )
    return encode_frames(self, encode, video, count)


def build(spec: BackboneSpec, dtype: Any) -> DinoV2:
  """Returns the network of a spec.

  Raises:
    ValueError: there is no such rule for positions.
  """
  sizes, rule = spec.sizes, spec.options["pos_interp"]
  if rule not in POSITION_RULES:
    raise ValueError(
      f"backbone.options.pos_interp is {rule!r}; expected one of"
      f" {', '.join(POSITION_RULES)}"
    )
  return DinoV2(
    patch=spec.patch,
    grid=spec.grid[1:],
    table=sizes["table"],
    width=spec.width,
    depth=spec.depth,
    block=BlockConfig(
      spec.heads,
      spec.mlp_dim,
      gelu="erf",
      mlp=sizes.get("mlp", "gelu"),
      epsilon=sizes.get("epsilon", 1e-6),
      layer_scale=sizes.get("layer_scale", True),
      dtype=dtype,
    ),
    num_registers=sizes.get("registers", 0),
    offset=sizes.get("offset", 0.1) if rule == "official" else 0.0,
    antialias=sizes.get("antialias", False),
    frames_at_once=spec.options["frames_at_once"],
  )


def _first(array: np.ndarray, heads: int) -> np.ndarray:
  """Returns the class token, or its position, from `[1 n D]`."""
  del heads
  return array[0, 0]


def _square(array: np.ndarray, heads: int) -> np.ndarray:
  """Returns the positions of patches as a square, from `[1 1+n D]`."""
  del heads
  side = round((array.shape[1] - 1) ** 0.5)
  return rearrange(array[0, 1:], "(h w) D -> h w D", h=side)


_POSITIONS = [("class_position", _first), ("positions", _square)]
_GATED = ("mlp/dense_gate", "mlp/dense_in")

_OFFICIAL = dataclasses.replace(
  OFFICIAL,
  outer=OFFICIAL.outer
  | {
    "cls_token": [("class_token", _first)],
    "pos_embed": _POSITIONS,
    "register_tokens": [("registers", unbatched)],
    "mask_token": [],
  },
  block=OFFICIAL.block
  | stacked("mlp.w12", _GATED, transposed)
  | linear("mlp.w3", "mlp/dense_out")
  | {
    "ls1.gamma": [("attention_scale", same)],
    "ls2.gamma": [("mlp_scale", same)],
  },
  # Files that FSDP wrote count the chunks of blocks as well.
  blocks=r"blocks\.(?:\d+\.)?",
)

_HF = Layout(
  outer=linear(
    "embeddings.patch_embeddings.projection", "patch_embedding", convolution
  )
  | norm("layernorm", "encoder/norm")
  | {
    "embeddings.cls_token": [("class_token", _first)],
    "embeddings.position_embeddings": _POSITIONS,
    "embeddings.register_tokens": [("registers", unbatched)],
    "embeddings.mask_token": [],
  },
  block=norm("norm1", "attention_norm")
  | norm("norm2", "mlp_norm")
  | projections(
    *(f"attention.attention.{x}" for x in ("query", "key", "value"))
  )
  | linear("attention.output.dense", "attention/out", from_heads)
  | linear("mlp.fc1", "mlp/dense_in")
  | linear("mlp.fc2", "mlp/dense_out")
  | stacked("mlp.weights_in", _GATED, transposed)
  | linear("mlp.weights_out", "mlp/dense_out")
  | {
    "layer_scale1.lambda1": [("attention_scale", same)],
    "layer_scale2.lambda1": [("mlp_scale", same)],
  },
  blocks=r"encoder\.layer\.",
)


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns where an array of a checkpoint goes; see `spec.Family`."""
  found = find(name, _OFFICIAL, spec.heads)
  if found is not None:
    return found
  name = strip(name, "dinov2.", "dinov2_with_registers.")
  return find(name, _HF, spec.heads)


_FILES = "https://dl.fbaipublicfiles.com/dinov2"


def _spec(
  size: str, width: int, depth: int, heads: int, mlp_dim: int, file_size: str
) -> tuple[BackboneSpec, BackboneSpec]:
  """Returns a size without and with registers."""
  plain = BackboneSpec(
    name=f"dinov2_{size}",
    family="dinov2",
    resolution=224,
    num_frames=16,
    tubelet=1,
    patch=14,
    width=width,
    depth=depth,
    heads=heads,
    mlp_dim=mlp_dim,
    **IMAGENET,
    sizes={"table": 37, "mlp": "swiglu" if size == "g" else "gelu"},
    options={"pos_interp": "official", "frames_at_once": AUTOMATIC},
    source="facebookresearch/dinov2",
    license="Apache-2.0",
    checkpoint=f"dinov2_vit{size}14_pretrain.pth",
  )
  registers = dataclasses.replace(
    plain,
    name=f"dinov2_{size}_reg",
    sizes=plain.sizes | {"registers": 4, "antialias": True, "offset": 0.0},
    checkpoint=f"dinov2_vit{size}14_reg4_pretrain.pth",
  )
  return tuple(
    dataclasses.replace(
      spec,
      download=f"{_FILES}/dinov2_vit{size}14/{spec.checkpoint} ({file_size})",
    )
    for spec in (plain, registers)
  )


_TINY = dataclasses.replace(
  _spec("s", 96, 4, 3, 384, "")[0],
  name="dinov2_tiny",
  resolution=64,
  patch=16,
  sizes={"table": 4},
  license="Apache-2.0",
  checkpoint="dinov2_tiny.safetensors",
  download="",
)

FAMILY = Family(
  name="dinov2",
  build=build,
  route=route,
  specs=(
    _TINY,
    *_spec("s", 384, 12, 6, 1536, "22M parameters, 84 MB"),
    *_spec("b", 768, 12, 12, 3072, "87M parameters, 330 MB"),
    *_spec("l", 1024, 24, 16, 4096, "304M parameters, 1.1 GB"),
    *_spec("g", 1536, 40, 24, 4096, "1.1B parameters, 4.2 GB"),
  ),
)
