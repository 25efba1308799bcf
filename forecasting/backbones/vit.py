"""Pre-norm transformer blocks shared by the backbones.

One place for what the families have in common: separate query, key, value and
output projections, LayerNorm, an MLP; what differs between them is a field of
`BlockConfig`. Parameter names are those of the public 4DS checkpoints. `n` is
the number of tokens of a clip, in the order time, row, column.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float

from forecasting.shapes import Array

NORM_EPSILON = 1e-6
# Over the shortest, which turns by 1 rad a slot or token; our choice.
LONGEST_WAVE = 30.0
MANY_TOKENS = 1024  # whose logits leave a CPU's cache; our measurement


def waves(places: Float[Array, "*X a"], width: int) -> Float[Array, "*X D"]:
  """Returns sines and cosines of places, axis by axis.

  Args:
    places: coordinates, counted in slots and tokens.
    width: features, shared equally by the waves; zeros for what is left.

  Returns:
    Values in [-1, 1], an array of the same library and precision as `places`.
  """
  xp = jnp if isinstance(places, jax.Array) else np
  count = width // (2 * places.shape[-1])
  rates = LONGEST_WAVE ** (-np.arange(count) / max(count - 1, 1))
  angles = places[..., None] * rates
  both = xp.concatenate([xp.sin(angles), xp.cos(angles)], axis=-1)
  flat = rearrange(both, "... a k -> ... (a k)")
  rest = width - flat.shape[-1]
  return xp.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, rest)])


def wave_positions(
  grid: tuple[int, int, int], width: int
) -> Float[np.ndarray, "t h w D"]:
  """Returns sines and cosines of time, row and column, side by side.

  The initial value of learned tables: with small random ones, a masked
  autoencoder spends hundreds of steps before it knows where a token is.

  Args:
    grid: slots, rows and columns.
    width: features, as in `waves`.

  Returns:
    Values in [-1, 1], float32.

  Source: VideoMAE and V-JEPA fix such tables; learning on is our choice.
  """
  places = np.stack(np.indices(grid), axis=-1).astype(np.float64)
  return waves(places, width).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class BlockConfig:
  """What the families do differently inside a block.

  Attributes:
    heads: number of attention heads; divides the width.
    mlp_dim: hidden width of the MLP.
    gelu: 'tanh' for the approximation, 'erf' for the exact function.
    mlp: 'gelu', or 'swiglu' for a gated one.
    epsilon: of the LayerNorms.
    key_bias: whether keys have a bias, as queries and values do.
    layer_scale: whether a learned factor per channel multiplies both branches.
    logit_cap: attention logits pass through cap * tanh(logits / cap); 0: not.
    dtype: of the matrix products; None: that of the tokens. Norms and softmax
      are always computed in float32.
  """

  heads: int
  mlp_dim: int
  gelu: str = "tanh"
  mlp: str = "gelu"
  epsilon: float = NORM_EPSILON
  key_bias: bool = True
  layer_scale: bool = False
  logit_cap: float = 0.0
  dtype: Any = None


# Turns queries or keys [B K n d] by their positions.
Rotate = Callable[[jax.Array], jax.Array]


def attend(
  query: Float[Array, "B K n d"],
  key: Float[Array, "B K m d"],
  value: Float[Array, "B K m d"],
  logit_cap: float = 0.0,
  mask: Bool[Array, "n m"] | None = None,
) -> Float[Array, "B K n d"]:
  """Mixes values by the softmax of queries times keys.

  Args:
    query: scaled.
    key: of all tokens.
    value: of all tokens.
    logit_cap: as in `BlockConfig`.
    mask: as in `Attention`.
  """

  def mix(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    # Plain matrix products: on CPU XLA is up to 1.5 times as fast with them as
    # with the einsum that leaves the layout of the keys to it.
    logits = (query @ jnp.swapaxes(key, -1, -2)).astype(jnp.float32)
    if logit_cap:
      logits = logit_cap * jnp.tanh(logits / logit_cap)
    if mask is not None:
      logits = jnp.where(mask, logits, -jnp.inf)
    return jax.nn.softmax(logits).astype(value.dtype) @ value

  def head_by_head(*arrays: jax.Array) -> jax.Array:
    by_head = tuple(rearrange(x, "B K n d -> K B n d") for x in arrays)
    mixed = jax.lax.map(lambda head: mix(*head), by_head)
    return rearrange(mixed, "K B n d -> B K n d")

  if query.shape[-2] <= MANY_TOKENS:
    return mix(query, key, value)
  # On CPU the logits of one head stay in the cache, those of all do not.
  return jax.lax.platform_dependent(
    query, key, value, cpu=head_by_head, default=mix
  )


class Attention(nn.Module):
  """Multi-head self-attention over all tokens.

  Attributes:
    config: of the block.
  """

  config: BlockConfig

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "B n D"],
    rotate: Rotate | None = None,
    mask: Bool[Array, "n n"] | None = None,
  ) -> Float[Array, "B n D"]:
    """Mixes the tokens of each clip.

    Args:
      tokens: normalized.
      rotate: applied to queries and keys; None: positions are in the tokens.
      mask: [i, j] is whether token i may look at token j; None: all do.

    Returns:
      The output projection.
    """
    config, width = self.config, tokens.shape[-1]
    xavier = nn.initializers.xavier_uniform()
    # Queries and keys start equal, so that tokens first attend to their like,
    # neighbors above all (mimetic initialization, arXiv 2305.09828).
    is_new = self.has_rng("params")
    shared = self.make_rng("params") if is_new else None

    def similar(key, *args):
      # Linen calls initializers with existing parameters too, for the shape.
      return xavier(shared if is_new else key, *args)

    project = functools.partial(
      nn.DenseGeneral,
      (config.heads, width // config.heads),
      dtype=config.dtype,
    )
    query = rearrange(
      project(kernel_init=similar, name="query")(tokens), "B n K d -> B K n d"
    )
    key = rearrange(
      project(kernel_init=similar, use_bias=config.key_bias, name="key")(
        tokens
      ),
      "B m K d -> B K m d",
    )
    value = rearrange(
      project(kernel_init=xavier, name="value")(tokens), "B m K d -> B K m d"
    )
    if rotate is not None:
      query, key = rotate(query), rotate(key)
    scale = (width // config.heads) ** -0.5
    mixed = attend(query * scale, key, value, config.logit_cap, mask)
    return nn.DenseGeneral(
      width,
      axis=(-2, -1),
      kernel_init=xavier,
      dtype=config.dtype,
      name="out",
    )(rearrange(mixed, "B K n d -> B n K d"))


class Mlp(nn.Module):
  """Two dense layers with a GELU between, or a gated one.

  Attributes:
    config: of the block.
  """

  config: BlockConfig

  @nn.compact
  def __call__(self, tokens: Float[Array, "B n D"]) -> Float[Array, "B n D"]:
    """Transforms each token by itself."""
    config = self.config
    dense = functools.partial(
      nn.Dense,
      kernel_init=nn.initializers.xavier_uniform(),
      dtype=config.dtype,
    )
    if config.mlp == "swiglu":
      gate = nn.silu(dense(config.mlp_dim, name="dense_gate")(tokens))
      inner = gate * dense(config.mlp_dim, name="dense_in")(tokens)
    else:
      inner = dense(config.mlp_dim, name="dense_in")(tokens)
      inner = nn.gelu(inner, approximate=config.gelu == "tanh")
    return dense(tokens.shape[-1], name="dense_out")(inner)


class Block(nn.Module):
  """x += attention(norm(x)); x += mlp(norm(x)).

  Attributes:
    config: of the block.
  """

  config: BlockConfig

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "B n D"],
    rotate: Rotate | None = None,
    mask: Bool[Array, "n n"] | None = None,
  ) -> Float[Array, "B n D"]:
    """Applies the block; arguments as in `Attention`."""
    config = self.config
    norm = functools.partial(
      nn.LayerNorm, epsilon=config.epsilon, dtype=jnp.float32
    )

    def scaled(branch: Float[Array, "B n D"], name: str) -> jax.Array:
      if not config.layer_scale:
        return branch
      ones = nn.initializers.ones
      return branch * self.param(name, ones, (branch.shape[-1],))

    mixed = Attention(config, name="attention")(
      norm(name="attention_norm")(tokens), rotate, mask
    )
    tokens = tokens + scaled(mixed, "attention_scale")
    inner = Mlp(config, name="mlp")(norm(name="mlp_norm")(tokens))
    return tokens + scaled(inner, "mlp_scale")


class Transformer(nn.Module):
  """A stack of blocks, optionally with a norm at the end.

  Attributes:
    depth: number of blocks that own parameters.
    config: of every block.
    final_norm: whether a LayerNorm follows the last block.
  """

  depth: int
  config: BlockConfig
  final_norm: bool = False

  def setup(self) -> None:
    """Names the blocks layers_0, layers_1, ..."""
    self.layers = [Block(self.config) for _ in range(self.depth)]
    if self.final_norm:
      self.norm = nn.LayerNorm(epsilon=self.config.epsilon, dtype=jnp.float32)

  def __call__(
    self,
    tokens: Float[Array, "B n D"],
    num_blocks: int | None = None,
    rotate: Rotate | None = None,
    mask: Bool[Array, "n n"] | None = None,
  ) -> Float[Array, "B n D"]:
    """Applies the first blocks; the others are not computed.

    Args:
      tokens: embedded tokens with their positions.
      num_blocks: how many blocks to apply; None or all of them: the final norm
        follows, if there is one.
      rotate: as in `Attention`.
      mask: as in `Attention`.

    Returns:
      The tokens after these blocks.
    """
    for layer in self.layers[:num_blocks]:
      tokens = layer(tokens, rotate, mask)
    if self.final_norm and num_blocks in (None, self.depth):
      tokens = self.norm(tokens)
    return tokens
