"""The 4DS video encoder (arXiv 2412.15212, representations4d).

Tubelets are projected by one strided convolution, a learned table of positions
is added, pre-norm blocks with tanh GELU follow, and nothing is normalized at
the end. The module tree is that of the public checkpoints:
encoder/patch_embedding/Conv_0, encoder/posenc, processor/layers_{i}. Their
`.npz` files hold Flax paths below `params/layers_0/` (the model was wrapped in
a Sequential, whose `layers_2/` is a depth readout) or below `params/`.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Float, Int

from forecasting.backbones.spec import BackboneSpec, Family, Route, spec_maker
from forecasting.backbones.vit import BlockConfig, Transformer, wave_positions
from forecasting.shapes import Array

READOUT_DEPTH = 0.95  # the public readout code's relative depth


def blocks_for_depth(relative_depth: float, depth: int) -> int:
  """Returns how many blocks precede the activation read at a relative depth.

  The public model lists depth + 1 activations: entries 0 and 1 are the embedded
  tokens and entry k is the input of block k - 1, so the output of the last
  block is not in the list. Entry `int(relative_depth * (depth + 1)) - 1` is
  read.

  Args:
    relative_depth: in (0, 1].
    depth: number of blocks of the encoder.

  Returns:
    The number of blocks to compute, at least 0.

  Source: representations4d.
  """
  entry = int(relative_depth * (depth + 1)) - 1
  return max(entry - 1, 0)


def to_patches(
  video: Float[Array, "B T H W c"], patch: tuple[int, int, int]
) -> Float[Array, "B n p"]:
  """Cuts clips into flat tubelets.

  Args:
    video: clips whose frames, rows and columns the patch divides.
    patch: frames, rows and columns of a tubelet.

  Returns:
    Tubelets in the order time, row, column; their values in the order frame,
    row, column, channel.
  """
  frames, rows, columns = patch
  return rearrange(
    video,
    "B (t pt) (h ph) (w pw) c -> B (t h w) (pt ph pw c)",
    pt=frames,
    ph=rows,
    pw=columns,
  )


class PatchKernel(nn.Module):
  """A convolution whose stride is its kernel, applied to cut-out patches.

  Attributes:
    patch: frames, rows and columns of a tubelet.
    width: output features.
  """

  patch: tuple[int, int, int]
  width: int

  @nn.compact
  def __call__(self, patches: Float[Array, "B n p"]) -> Float[Array, "B n D"]:
    """Projects flat patches."""
    kernel = self.param(
      "kernel",
      nn.initializers.xavier_uniform(in_axis=(0, 1, 2, 3), out_axis=4),
      (*self.patch, 3, self.width),
    )
    bias = self.param("bias", nn.initializers.zeros, (self.width,))
    return patches @ rearrange(kernel, "t h w c D -> (t h w c) D") + bias


class PatchEmbedding(nn.Module):
  """The level of the public module tree that holds the convolution.

  Attributes:
    patch: frames, rows and columns of a tubelet.
    width: output features.
  """

  patch: tuple[int, int, int]
  width: int

  @nn.compact
  def __call__(self, patches: Float[Array, "B n p"]) -> Float[Array, "B n D"]:
    """Projects flat patches."""
    return PatchKernel(self.patch, self.width, name="Conv_0")(patches)


class PositionTable(nn.Module):
  """A learned vector for every slot of the grid.

  Attributes:
    grid: slots, rows and columns of the table.
    width: features.
  """

  grid: tuple[int, int, int]
  width: int

  @nn.compact
  def __call__(self, num_slots: int) -> Float[Array, "n D"]:
    """Returns the rows of the first `num_slots` slots, flattened."""
    table = self.param(
      "embeddings", lambda _: jnp.array(wave_positions(self.grid, self.width))
    )
    return rearrange(table[:num_slots], "t h w D -> (t h w) D")


class Tokenizer(nn.Module):
  """Patches and positions.

  Attributes:
    patch: frames, rows and columns of a tubelet.
    grid: slots, rows and columns of the position table.
    width: features.
  """

  patch: tuple[int, int, int]
  grid: tuple[int, int, int]
  width: int

  def setup(self) -> None:
    """Names the parts as the public checkpoints do."""
    self.patch_embedding = PatchEmbedding(self.patch, self.width)
    self.posenc = PositionTable(self.grid, self.width)

  def __call__(
    self,
    video: Float[Array, "B T H W 3"],
    visible: Int[Array, "B v"] | None = None,
  ) -> Float[Array, "B n D"]:
    """Embeds all tubelets of each clip, or the visible ones only."""
    patches = to_patches(video, self.patch)
    positions = self.posenc(video.shape[1] // self.patch[0])
    if visible is None:
      return self.patch_embedding(patches) + positions
    patches = jnp.take_along_axis(patches, visible[..., None], axis=1)
    return self.patch_embedding(patches) + positions[visible]


class FourDS(nn.Module):
  """The encoder.

  Attributes:
    patch: frames, rows and columns of a tubelet.
    grid: slots, rows and columns of the position table.
    width: features of a token.
    depth: number of blocks that own parameters.
    block: of every block.
  """

  patch: tuple[int, int, int]
  grid: tuple[int, int, int]
  width: int
  depth: int
  block: BlockConfig

  def setup(self) -> None:
    """Names the parts as the public checkpoints do."""
    self.encoder = Tokenizer(self.patch, self.grid, self.width)
    self.processor = Transformer(self.depth, self.block)

  def __call__(
    self,
    video: Float[Array, "B T H W 3"],
    visible: Int[Array, "B v"] | None = None,
    num_blocks: int | None = None,
  ) -> Float[Array, "B n D"]:
    """Encodes clips.

    Args:
      video: frames in [0, 1]; a clip shorter than the position table uses the
        table's first rows.
      visible: flat indices of the tokens to encode; None: all. The pixels of
        the others never enter the network.
      num_blocks: blocks to compute; None: all.

    Returns:
      Tokens, not normalized.
    """
    return self.processor(self.encoder(video, visible), num_blocks)

  def latents(
    self,
    video: Float[Array, "B T H W 3"],
    num_blocks: int,
    keys: jax.Array | None = None,
  ) -> Float[Array, "B t h w D"]:
    """Encodes clips; see `spec.Family`."""
    del keys
    _, h, w = self.grid
    tokens = self(video, None, num_blocks)
    return rearrange(tokens, "B (t h w) D -> B t h w D", h=h, w=w)


def build(spec: BackboneSpec, dtype: Any) -> FourDS:
  """Returns the network of a spec."""
  return FourDS(
    patch=(spec.tubelet, spec.patch, spec.patch),
    grid=spec.grid,
    width=spec.width,
    depth=spec.depth,
    block=BlockConfig(spec.heads, spec.mlp_dim, dtype=dtype),
  )


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns where an array of a checkpoint goes; see `spec.Family`."""
  del spec
  if not name.startswith("params/"):
    return None
  name = name.removeprefix("params/")
  if name.startswith("layers_2/"):
    return []
  return [(name.removeprefix("layers_0/"), np.asarray)]


_BUCKET = "https://storage.googleapis.com/representations4d/checkpoints"
_RELEASED = "CC-BY-4.0"


_spec = spec_maker(
  family="4ds",
  resolution=224,
  tubelet=2,
  patch=16,
  layer=str(READOUT_DEPTH),
  source="google-deepmind/representations4d",
)


FAMILY = Family(
  name="4ds",
  build=build,
  route=route,
  blocks_for_depth=blocks_for_depth,
  specs=(
    _spec(
      "4ds_tiny",
      128,
      8,
      2,
      512,
      resolution=64,
      patch=8,
      license="Apache-2.0",
      checkpoint="4ds_tiny.safetensors",
    ),
    _spec(
      "4ds_b",
      768,
      12,
      12,
      3072,
      license=_RELEASED,
      checkpoint="scaling4d_dist_b.npz",
      download=f"{_BUCKET}/scaling4d_dist_b.npz (88M parameters, 334 MB)",
    ),
    _spec("4ds_l", 1024, 24, 16, 4096, substitute="4ds_b"),
    _spec("4ds_h", 1280, 32, 16, 5120, substitute="4ds_e"),
    _spec(
      "4ds_e",
      1792,
      56,
      16,
      15360,
      license=_RELEASED,
      checkpoint="scaling4d_e.npz",
      download=f"{_BUCKET}/scaling4d_e.npz (3.8B parameters, 14 GB)",
    ),
  ),
)
