"""V-JEPA encoders (arXiv 2404.08471, facebookresearch/jepa).

Tubelets are projected by one strided convolution, a fixed table of sines and
cosines is added, pre-norm blocks and a norm follow. The table is stored in the
checkpoint and loaded from there. Official `.pth.tar` files hold dicts `encoder`
and `target_encoder` (the moving average, which the public evaluations take)
with names `module.backbone.blocks.0...`.

Clips of another shape than the table's get a table resized along all three
axes, so that 4 of 16 frames lie at slots 1.5 and 5.5. `pos_time='truncate'`
takes the first slots instead, as V-JEPA 2's code does.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.backbones.four_ds import PatchKernel, to_patches
from forecasting.backbones.spec import (
  IMAGENET,
  BackboneSpec,
  Family,
  Route,
  spec_maker,
)
from forecasting.backbones.torch_names import OFFICIAL, find, strip
from forecasting.backbones.vit import NORM_EPSILON, BlockConfig, Transformer
from forecasting.shapes import Array

POS_TIME = ("resize", "truncate")


def sine_positions(
  grid: tuple[int, int, int], width: int
) -> Float[np.ndarray, "t h w D"]:
  """Returns the table that V-JEPA was trained with.

  Sines and cosines of the slot, then of the row, then of the column, each of a
  third of the width rounded up to whole pairs; what exceeds the width is cut
  off at the end.

  Args:
    grid: slots, rows and columns.
    width: features.

  Returns:
    Values in [-1, 1], float32.

  Source: facebookresearch/jepa with `uniform_power`.
  """
  half = -(-width // 6)
  rates = 10000.0 ** (-np.arange(half) / half)
  angles = rearrange(np.indices(grid), "a t h w -> t h w a")
  angles = angles[..., None] * rates
  waves = np.stack([np.sin(angles), np.cos(angles)], axis=-2)
  waves = rearrange(waves, "t h w a s r -> t h w (a s r)")
  return waves[..., :width].astype(np.float32)


class VJepa(nn.Module):
  """The encoder.

  Attributes:
    patch: frames, rows and columns of a tubelet.
    table: slots, rows and columns of the stored positions.
    width: features of a token.
    depth: number of blocks that own parameters.
    block: of every block.
    pos_time: 'resize' or 'truncate', for clips shorter than the table.
  """

  patch: tuple[int, int, int]
  table: tuple[int, int, int]
  width: int
  depth: int
  block: BlockConfig
  pos_time: str = "resize"

  def setup(self) -> None:
    """Names the parts as `torch_names.py` expects."""
    self.patch_embedding = PatchKernel(self.patch, self.width)
    self.positions = self.param(
      "positions", lambda _: jnp.array(sine_positions(self.table, self.width))
    )
    self.encoder = Transformer(self.depth, self.block, final_norm=True)

  def latents(
    self,
    video: Float[Array, "B T H W 3"],
    num_blocks: int,
    keys: jax.Array | None = None,
  ) -> Float[Array, "B t h w D"]:
    """Encodes clips; see `spec.Family`."""
    del keys
    slots, rows, columns = (
      size // part
      for size, part in zip(video.shape[1:4], self.patch, strict=True)
    )
    positions = self.positions
    if self.pos_time == "truncate":
      positions = positions[:slots]
    shape = (slots, rows, columns, self.width)
    if positions.shape != shape:
      positions = jax.image.resize(
        positions.astype(jnp.float32), shape, "linear", antialias=False
      )
    tokens = self.patch_embedding(to_patches(video, self.patch))
    tokens = self.encoder(
      tokens + rearrange(positions, "t h w D -> (t h w) D"), num_blocks
    )
    return rearrange(tokens, "B (t h w) D -> B t h w D", h=rows, w=columns)


def _table(spec: BackboneSpec) -> tuple[int, int, int]:
  """Returns the grid of the stored positions."""
  return tuple(spec.sizes.get("table", spec.grid))


def build(spec: BackboneSpec, dtype: Any) -> VJepa:
  """Returns the network of a spec.

  Args:
    spec: its `sizes` may say 'table', the grid of the stored positions, and
      'epsilon', of the LayerNorms.
    dtype: of the matrix products.

  Raises:
    ValueError: unknown `pos_time`.
  """
  pos_time = spec.options.get("pos_time", POS_TIME[0])
  if pos_time not in POS_TIME:
    raise ValueError(
      f"backbone.options.pos_time is {pos_time!r}; expected one of"
      f" {', '.join(POS_TIME)}"
    )
  return VJepa(
    patch=(spec.tubelet, spec.patch, spec.patch),
    table=_table(spec),
    width=spec.width,
    depth=spec.depth,
    block=BlockConfig(
      spec.heads,
      spec.mlp_dim,
      gelu="erf",
      epsilon=spec.sizes.get("epsilon", NORM_EPSILON),
      dtype=dtype,
    ),
    pos_time=pos_time,
  )


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns where an array of a checkpoint goes; see `spec.Family`."""
  name = strip(name, "module.", "backbone.")
  if name == "pos_embed":
    return [("positions", functools.partial(_to_grid, grid=_table(spec)))]
  return find(name, OFFICIAL, spec.heads)


def _to_grid(
  array: np.ndarray, grid: tuple[int, int, int]
) -> Float[np.ndarray, "t h w D"]:
  """Returns a flat table `(1, t h w, D)` by slot, row and column."""
  slots, rows, _ = grid
  return rearrange(array, "1 (t h w) D -> t h w D", t=slots, h=rows)


_spec = spec_maker(
  family="vjepa",
  resolution=224,
  tubelet=2,
  patch=16,
  **IMAGENET,
  options={"pos_time": POS_TIME[0], "weights": "default"},
  source="facebookresearch/jepa",
)


def _released(folder: str, size: str) -> dict[str, str]:
  """Returns the fields of a spec whose weights are public."""
  file = f"{folder}.pth.tar"
  url = f"https://dl.fbaipublicfiles.com/jepa/{folder}/{file}"
  return {
    "license": "CC-BY-NC-4.0",
    "checkpoint": file,
    "download": f"{url} ({size})",
  }


FAMILY = Family(
  name="vjepa",
  build=build,
  route=route,
  containers=("target_encoder", "encoder"),
  specs=(
    _spec(
      "vjepa_tiny",
      96,
      4,
      2,
      384,
      resolution=64,
      patch=8,
      license="Apache-2.0",
      checkpoint="vjepa_tiny.safetensors",
    ),
    _spec("vjepa_l", 1024, 24, 16, 4096, **_released("vitl16", "5.1 GB")),
    _spec("vjepa_h", 1280, 32, 16, 5120, **_released("vith16", "10.4 GB")),
    _spec(
      "vjepa_h_384",
      1280,
      32,
      16,
      5120,
      resolution=384,
      **_released("vith16-384", "10.4 GB"),
    ),
  ),
)
