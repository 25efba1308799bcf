"""Transformer blocks that only pretraining needs."""

import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float

from forecasting.backbones.vit import (
  Attention,
  BlockConfig,
  Mlp,
  Rotate,
  attend,
)
from forecasting.shapes import Array

TIME_FEATURES = 128  # of the sinusoids of a flow's time


def _norm(config: BlockConfig, **fields):
  return nn.LayerNorm(epsilon=config.epsilon, dtype=jnp.float32, **fields)


class CrossAttention(nn.Module):
  """Multi-head attention of queries to a context.

  Attributes:
    config: of the block.
  """

  config: BlockConfig

  @nn.compact
  def __call__(
    self,
    queries: Float[Array, "B n D"],
    context: Float[Array, "B m E"],
    rotate: tuple[Rotate, Rotate] | None = None,
    mask: Bool[Array, "n m"] | None = None,
  ) -> Float[Array, "B n D"]:
    """Mixes the context into each query.

    Args:
      queries: normalized.
      context: where keys and values come from.
      rotate: of queries and of keys; None: positions are in the tokens.
      mask: [i, j] is whether query i may look at token j; None: all do.
    """
    config, width = self.config, queries.shape[-1]
    head = width // config.heads
    project = functools.partial(
      nn.DenseGeneral,
      (config.heads, head),
      kernel_init=nn.initializers.xavier_uniform(),
      dtype=config.dtype,
    )
    query = rearrange(project(name="query")(queries), "B n K d -> B K n d")
    key = rearrange(project(name="key")(context), "B m K d -> B K m d")
    value = rearrange(project(name="value")(context), "B m K d -> B K m d")
    if rotate is not None:
      query, key = rotate[0](query), rotate[1](key)
    mixed = attend(query * head**-0.5, key, value, mask=mask)
    return nn.DenseGeneral(
      width,
      axis=(-2, -1),
      kernel_init=nn.initializers.xavier_uniform(),
      dtype=config.dtype,
      name="out",
    )(rearrange(mixed, "B K n d -> B n K d"))


class CrossBlock(nn.Module):
  """x += cross_attention(norm(x), context); x += mlp(norm(x)).

  Queries never look at one another.

  Attributes:
    config: of the block.
  """

  config: BlockConfig

  @nn.compact
  def __call__(
    self,
    queries: Float[Array, "B n D"],
    context: Float[Array, "B m E"],
    rotate: tuple[Rotate, Rotate] | None = None,
    mask: Bool[Array, "n m"] | None = None,
  ) -> Float[Array, "B n D"]:
    """Applies the block; arguments as in `CrossAttention`."""
    config = self.config
    inner = _norm(config, name="attention_norm")(queries)
    queries = queries + CrossAttention(config, name="attention")(
      inner, context, rotate, mask
    )
    inner = _norm(config, name="mlp_norm")(queries)
    return queries + Mlp(config, name="mlp")(inner)


class ModulatedBlock(nn.Module):
  """Self-attention and MLP, scaled, shifted and gated by a condition (DiT).

  Attributes:
    config: of the block.
  """

  config: BlockConfig

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "B n D"],
    condition: Float[Array, "B D"],
    rotate: Rotate | None = None,
  ) -> Float[Array, "B n D"]:
    """Applies the block; with zero gates, as at the start, the identity."""
    config, width = self.config, tokens.shape[-1]
    modulation = nn.Dense(
      6 * width, kernel_init=nn.initializers.zeros, name="modulation"
    )(nn.silu(condition))
    scale, shift, gate, mlp_scale, mlp_shift, mlp_gate = rearrange(
      modulation, "B (parts D) -> parts B 1 D", parts=6
    )
    plain = functools.partial(_norm, config, use_bias=False, use_scale=False)
    inner = plain(name="attention_norm")(tokens) * (1.0 + scale) + shift
    tokens = tokens + gate * Attention(config, name="attention")(inner, rotate)
    inner = plain(name="mlp_norm")(tokens) * (1.0 + mlp_scale) + mlp_shift
    return tokens + mlp_gate * Mlp(config, name="mlp")(inner)


class AttentionPool(nn.Module):
  """One learned query attends to all tokens.

  Attributes:
    config: of the block.
  """

  config: BlockConfig

  @nn.compact
  def __call__(self, tokens: Float[Array, "B n D"]) -> Float[Array, "B D"]:
    """Returns one vector per clip."""
    query = self.param(
      "query", nn.initializers.normal(0.02), (1, 1, tokens.shape[-1])
    )
    query = jnp.broadcast_to(query, (len(tokens), 1, tokens.shape[-1]))
    return CrossBlock(self.config, name="block")(query, tokens)[:, 0]


def time_waves(
  time: Float[Array, "B"], features: int = TIME_FEATURES
) -> Float[Array, "B k"]:
  """Returns cosines and sines of times in [0, 1]."""
  half = features // 2
  rates = 1e4 ** (-np.arange(half, dtype=np.float32) / half)
  angles = 1000.0 * time[:, None] * rates
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
