"""Pre-norm transformer blocks shared by the video backbones.

One place for what the families have in common: separate query, key, value and
output projections with bias, LayerNorm with epsilon 1e-6, an MLP with either
GELU. Parameter names are those of the public 4DS checkpoints, so that loading
one is a renaming. `n` is the number of tokens of a clip, in the order time,
row, column.
"""

import functools

import flax.linen as nn
import jax
import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.shapes import Array

NORM_EPSILON = 1e-6
LONGEST_WAVE = 30.0  # of initial positions, over the shortest; our choice


def wave_positions(
  grid: tuple[int, int, int], width: int
) -> Float[np.ndarray, "t h w D"]:
  """Returns sines and cosines of time, row and column, side by side.

  The initial value of learned tables: with small random ones, a masked
  autoencoder spends hundreds of steps before it knows where a token is.

  Args:
    grid: slots, rows and columns.
    width: features; a sixth of them for each of the six waves, and zeros for
      what is left.

  Returns:
    Values in [-1, 1], float32.

  Source: VideoMAE and V-JEPA fix such tables; learning on is our choice.
  """
  count = width // 6
  rates = LONGEST_WAVE ** (-np.arange(count) / max(count - 1, 1))
  angles = np.stack(np.indices(grid), axis=-1)[..., None] * rates
  waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
  waves = rearrange(waves, "t h w i k -> t h w (i k)")
  rest = width - waves.shape[-1]
  return np.pad(waves, ((0, 0),) * 3 + ((0, rest),)).astype(np.float32)


class Attention(nn.Module):
  """Multi-head self-attention over all tokens.

  Attributes:
    heads: number of heads; divides the width.
  """

  heads: int

  @nn.compact
  def __call__(self, tokens: Float[Array, "B n D"]) -> Float[Array, "B n D"]:
    """Mixes the tokens of each clip."""
    width = tokens.shape[-1]
    xavier = nn.initializers.xavier_uniform()
    # Queries and keys start equal, so that tokens first attend to their like,
    # neighbors above all (mimetic initialization, arXiv 2305.09828).
    is_new = self.has_rng("params")
    shared = self.make_rng("params") if is_new else None

    def similar(key, *args):
      # Linen calls initializers with existing parameters too, for the shape.
      return xavier(shared if is_new else key, *args)

    project = functools.partial(
      nn.DenseGeneral, (self.heads, width // self.heads)
    )
    query = rearrange(
      project(kernel_init=similar, name="query")(tokens), "B n K d -> B K n d"
    )
    key = rearrange(
      project(kernel_init=similar, name="key")(tokens), "B m K d -> B K d m"
    )
    value = rearrange(
      project(kernel_init=xavier, name="value")(tokens), "B m K d -> B K m d"
    )
    scale = (width // self.heads) ** -0.5
    # Plain matrix products: on CPU XLA is up to 1.5 times as fast with them as
    # with the einsum that leaves the layout of the keys to it.
    mixed = jax.nn.softmax((query * scale) @ key) @ value
    return nn.DenseGeneral(
      width,
      axis=(-2, -1),
      kernel_init=xavier,
      name="out",
    )(rearrange(mixed, "B K n d -> B n K d"))


class Mlp(nn.Module):
  """Two dense layers with a GELU between.

  Attributes:
    hidden: width between the layers.
    gelu: 'tanh' for the approximation, 'erf' for the exact function.
  """

  hidden: int
  gelu: str = "tanh"

  @nn.compact
  def __call__(self, tokens: Float[Array, "B n D"]) -> Float[Array, "B n D"]:
    """Transforms each token by itself."""
    dense = functools.partial(
      nn.Dense, kernel_init=nn.initializers.xavier_uniform()
    )
    inner = dense(self.hidden, name="dense_in")(tokens)
    inner = nn.gelu(inner, approximate=self.gelu == "tanh")
    return dense(tokens.shape[-1], name="dense_out")(inner)


class Block(nn.Module):
  """x += attention(norm(x)); x += mlp(norm(x)).

  Attributes:
    heads: number of attention heads.
    mlp_dim: hidden width of the MLP.
    gelu: 'tanh' or 'erf'.
  """

  heads: int
  mlp_dim: int
  gelu: str = "tanh"

  @nn.compact
  def __call__(self, tokens: Float[Array, "B n D"]) -> Float[Array, "B n D"]:
    """Applies the block."""
    norm = functools.partial(nn.LayerNorm, epsilon=NORM_EPSILON)
    tokens = tokens + Attention(self.heads, name="attention")(
      norm(name="attention_norm")(tokens)
    )
    return tokens + Mlp(self.mlp_dim, self.gelu, name="mlp")(
      norm(name="mlp_norm")(tokens)
    )


class Transformer(nn.Module):
  """A stack of blocks, optionally with a norm at the end.

  Attributes:
    depth: number of blocks that own parameters.
    heads: number of attention heads.
    mlp_dim: hidden width of the MLPs.
    gelu: 'tanh' or 'erf'.
    final_norm: whether a LayerNorm follows the last block.
  """

  depth: int
  heads: int
  mlp_dim: int
  gelu: str = "tanh"
  final_norm: bool = False

  def setup(self) -> None:
    """Names the blocks layers_0, layers_1, ..."""
    self.layers = [
      Block(self.heads, self.mlp_dim, self.gelu) for _ in range(self.depth)
    ]
    if self.final_norm:
      self.norm = nn.LayerNorm(epsilon=NORM_EPSILON)

  def __call__(
    self, tokens: Float[Array, "B n D"], num_blocks: int | None = None
  ) -> Float[Array, "B n D"]:
    """Applies the first blocks; the others are not computed.

    Args:
      tokens: embedded tokens with their positions.
      num_blocks: how many blocks to apply; None: all, then the final norm if
        there is one.

    Returns:
      The tokens after these blocks.
    """
    for layer in self.layers[:num_blocks]:
      tokens = layer(tokens)
    if self.final_norm and num_blocks is None:
      tokens = self.norm(tokens)
    return tokens
