"""The 4DS video encoder (arXiv 2412.15212, representations4d).

Tubelets are projected by one strided convolution, a learned table of positions
is added, pre-norm blocks with tanh GELU follow, and nothing is normalized at
the end. The module tree is that of the public checkpoints:
encoder/patch_embedding/Conv_0, encoder/posenc, processor/layers_{i}.
"""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float, Int

from forecasting.backbones.vit import Transformer, wave_positions
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
    heads: number of attention heads.
    mlp_dim: hidden width of the MLPs.
  """

  patch: tuple[int, int, int]
  grid: tuple[int, int, int]
  width: int
  depth: int
  heads: int
  mlp_dim: int

  def setup(self) -> None:
    """Names the parts as the public checkpoints do."""
    self.encoder = Tokenizer(self.patch, self.grid, self.width)
    self.processor = Transformer(self.depth, self.heads, self.mlp_dim)

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
