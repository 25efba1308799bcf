"""The W.A.L.T. transformer: window attention over noisy video latents.

A token is one place of one latent slot. Even layers attend within a slot,
odd ones within tubes of some rows and columns through all slots. Every layer
then attends, within a slot, to that slot's own tokens and the text. Scale,
shift and gate of both branches come from the noise level: of one projection
for all layers, plus one of low rank for each (AdaLN-LoRA). The output head
predicts the velocity of `walt_noise.py`.

Source: arXiv 2312.06662, sections 3 and 4. No code is public; what the paper
leaves open is ours: separate tables of relative biases per layer, none in the
cross-attention, LayerNorm of queries and keys with one scale for all heads,
one linear map after the embedding of the noise level, and a modulated norm
before the output head, without which the paper's numbers of parameters cannot
be reached.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int

from forecasting.backbones.vit import (
  NORM_EPSILON,
  BlockConfig,
  Mlp,
  wave_positions,
)
from forecasting.shapes import Array

TIME_FEATURES = 256  # of the sinusoids of the noise level; as in DiT


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
  """Sizes of the transformer.

  Attributes:
    grid: slots, rows and columns of the latents of a full clip.
    tube: rows and columns of a spatiotemporal window; divide the grid's.
    width: features of a token.
    depth: number of layers.
    heads: attention heads.
    mlp_dim: hidden width of the MLP.
    rank: of each layer's own part of the modulation.
    channels: of a latent.
    dtype: of the matrix products; None: that of the tokens.
  """

  grid: tuple[int, int, int]
  tube: tuple[int, int]
  width: int
  depth: int
  heads: int
  mlp_dim: int
  rank: int = 2
  channels: int = 8
  dtype: Any = None


def relative_offsets(
  slots: int, window: tuple[int, int, int]
) -> Int[np.ndarray, "n n"]:
  """Returns where each pair of a window's tokens looks up its bias.

  Args:
    slots: of the clip, at most `window[0]`.
    window: slots, rows and columns that the table was made for.

  Returns:
    Flat indices into a table of (2 slots - 1, 2 rows - 1, 2 columns - 1);
    [i, j] is for query i and key j.
  """
  places = np.stack(np.indices((slots, *window[1:])), axis=-1)
  places = rearrange(places, "t h w c -> (t h w) c")
  offsets = places[:, None] - places[None] + np.array(window) - 1
  sizes = [2 * size - 1 for size in window]
  return np.ravel_multi_index(tuple(np.moveaxis(offsets, -1, 0)), sizes)


class WindowAttention(nn.Module):
  """Multi-head attention with normalized queries and keys.

  Attributes:
    config: of the transformer.
    window: slots, rows and columns of a window, for the table of relative
      biases; None: no table.
  """

  config: DenoiserConfig
  window: tuple[int, int, int] | None = None

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "B n D"],
    text: Float[Array, "B m D"] | None = None,
  ) -> Float[Array, "B n D"]:
    """Mixes the tokens of each window, and text into them.

    Args:
      tokens: of a window each, in the order time, row, column.
      text: keys and values beside the tokens themselves.

    Returns:
      The output projection.
    """
    config = self.config
    head = config.width // config.heads
    project = functools.partial(
      nn.DenseGeneral,
      (config.heads, head),
      kernel_init=nn.initializers.xavier_uniform(),
      dtype=config.dtype,
    )
    norm = functools.partial(
      nn.LayerNorm, epsilon=NORM_EPSILON, dtype=jnp.float32
    )
    sources = tokens
    if text is not None:
      sources = jnp.concatenate([tokens, text.astype(tokens.dtype)], axis=1)
    query = norm(name="query_norm")(project(name="query")(tokens))
    key = norm(name="key_norm")(project(name="key")(sources))
    value = project(name="value")(sources)
    query = rearrange(query * head**-0.5, "B n K d -> B K n d")
    key = rearrange(key, "B m K d -> B K d m")
    logits = query.astype(value.dtype) @ key.astype(value.dtype)
    logits = logits.astype(jnp.float32)
    if self.window is not None:
      logits = logits + self._biases(tokens.shape[1])
    value = rearrange(value, "B m K d -> B K m d")
    mixed = jax.nn.softmax(logits).astype(value.dtype) @ value
    return nn.DenseGeneral(
      config.width,
      axis=(-2, -1),
      kernel_init=nn.initializers.xavier_uniform(),
      dtype=config.dtype,
      name="out",
    )(rearrange(mixed, "B K n d -> B n K d"))

  def _biases(self, count: int) -> Float[Array, "K n n"]:
    """Returns the biases between `count` tokens of a window.

    A clip of fewer slots uses the part of the table that its offsets reach.
    """
    window = self.window
    table = self.param(
      "relative_biases",
      nn.initializers.zeros,
      (*(2 * size - 1 for size in window), self.config.heads),
    )
    offsets = relative_offsets(count // (window[1] * window[2]), window)
    flat = rearrange(table.astype(jnp.float32), "t h w K -> K (t h w)")
    return flat[:, offsets]


class Layer(nn.Module):
  """Window attention, attention to the text, MLP.

  Attributes:
    config: of the transformer.
    is_spatial: whether windows are slots, not tubes.
  """

  config: DenoiserConfig
  is_spatial: bool

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "B t h w D"],
    text: Float[Array, "B m D"],
    level: Float[Array, "B D"],
    modulation: Float[Array, "B M"],
  ) -> Float[Array, "B t h w D"]:
    """Applies the layer.

    Args:
      tokens: of whole clips.
      text: tokens of the prompt.
      level: embedding of the noise level.
      modulation: what all layers share of scale, shift and gate.

    Returns:
      The tokens after the layer.
    """
    config = self.config
    dense = functools.partial(nn.Dense, use_bias=False)
    low = dense(config.rank, name="modulation_down")(level)
    # A layer starts with the modulation that all share.
    modulation = modulation + dense(
      6 * config.width, kernel_init=nn.initializers.zeros, name="modulation_up"
    )(low)
    scale, shift, gate, mlp_scale, mlp_shift, mlp_gate = rearrange(
      modulation, "B (parts D) -> parts B 1 1 1 D", parts=6
    )
    inner = _PlainNorm()(tokens) * (1.0 + scale) + shift
    tokens = tokens + gate * self._attend(inner)
    tokens = tokens + self._attend_to_text(tokens, text)
    inner = _PlainNorm()(tokens) * (1.0 + mlp_scale) + mlp_shift
    mlp = BlockConfig(config.heads, config.mlp_dim, dtype=config.dtype)
    slots, rows = tokens.shape[1:3]
    inner = Mlp(mlp, name="mlp")(rearrange(inner, "B t h w D -> B (t h w) D"))
    inner = rearrange(inner, "B (t h w) D -> B t h w D", t=slots, h=rows)
    return tokens + mlp_gate * inner

  def _attend(
    self, tokens: Float[Array, "B t h w D"]
  ) -> Float[Array, "B t h w D"]:
    """Attends within slots or tubes."""
    slots, rows, columns = tokens.shape[1:4]
    full_slots = self.config.grid[0]
    if self.is_spatial:
      attention = WindowAttention(
        self.config, (1, rows, columns), name="attention"
      )
      mixed = attention(rearrange(tokens, "B t h w D -> (B t) (h w) D"))
      return rearrange(mixed, "(B t) (h w) D -> B t h w D", t=slots, h=rows)
    height, width = self.config.tube
    attention = WindowAttention(
      self.config, (full_slots, height, width), name="attention"
    )
    windows = rearrange(
      tokens,
      "B t (i a) (j b) D -> (B i j) (t a b) D",
      a=height,
      b=width,
    )
    return rearrange(
      attention(windows),
      "(B i j) (t a b) D -> B t (i a) (j b) D",
      i=rows // height,
      j=columns // width,
      a=height,
      b=width,
    )

  def _attend_to_text(
    self, tokens: Float[Array, "B t h w D"], text: Float[Array, "B m D"]
  ) -> Float[Array, "B t h w D"]:
    """Attends within slots, to the text too."""
    slots, rows = tokens.shape[1:3]
    inner = nn.LayerNorm(
      epsilon=NORM_EPSILON, dtype=jnp.float32, name="cross_norm"
    )(rearrange(tokens, "B t h w D -> (B t) (h w) D"))
    mixed = WindowAttention(self.config, name="cross_attention")(
      inner, repeat(text, "B m D -> (B t) m D", t=slots)
    )
    return rearrange(mixed, "(B t) (h w) D -> B t h w D", t=slots, h=rows)


class Denoiser(nn.Module):
  """The transformer, from noisy latents to features or velocity.

  Attributes:
    config: its sizes.
  """

  config: DenoiserConfig

  def setup(self) -> None:
    config = self.config
    slots, rows, columns = config.grid
    dense = functools.partial(nn.Dense, dtype=config.dtype)
    self.input_projection = dense(config.width)
    self.text_projection = dense(config.width)
    self.spatial_positions = self.param(
      "spatial_positions",
      lambda _: jnp.array(
        rearrange(
          wave_positions((1, rows, columns), config.width),
          "1 h w D -> (h w) D",
        )
      ),
    )
    self.temporal_positions = self.param(
      "temporal_positions",
      lambda _: jnp.array(wave_positions((slots, 1, 1), config.width)[:, 0, 0]),
    )
    self.level_in = nn.Dense(config.width)
    self.level_out = nn.Dense(config.width)
    self.modulation = nn.Dense(6 * config.width, bias_init=_open_gates)
    self.layers = [
      Layer(config, is_spatial=i % 2 == 0) for i in range(config.depth)
    ]
    self.output_norm = _PlainNorm()
    self.output_modulation = nn.Dense(2 * config.width)
    self.output_projection = nn.Dense(config.channels)

  def __call__(
    self,
    noisy: Float[Array, "B t h w c"],
    level: Int[Array, "B"],
    text: Float[Array, "B m E"],
    **signals: Array,
  ) -> Float[Array, "B t h w c"]:
    """Predicts the velocity; arguments as in `features`."""
    tokens = self.features(noisy, level, text, self.config.depth, **signals)
    embedding = nn.silu(self._embed_level(level))
    scale, shift = rearrange(
      self.output_modulation(embedding),
      "B (parts D) -> parts B 1 1 1 D",
      parts=2,
    )
    return self.output_projection(
      self.output_norm(tokens) * (1.0 + scale) + shift
    )

  def features(
    self,
    noisy: Float[Array, "B t h w c"],
    level: Int[Array, "B"],
    text: Float[Array, "B m E"],
    num_blocks: int,
    *,
    estimate: Float[Array, "B t h w c"] | None = None,
    past: Float[Array, "B t h w c"] | None = None,
    is_past: Bool[Array, "B t"] | None = None,
  ) -> Float[Array, "B t h w D"]:
    """Returns the tokens after some layers.

    Args:
      noisy: latents and noise (`walt_noise.py`), at most the full clip's slots.
      level: of the noise, from 0 (clean) to 999 (nothing else).
      text: embedded prompt.
      num_blocks: layers to compute.
      estimate: of the clean latents (self-conditioning); None: zeros, as in a
        first pass.
      past: clean latents; only those marked in `is_past` are used.
      is_past: slots that are given (frame prediction); None: none.

    Returns:
      The tokens, not normalized.
    """
    slots, rows = noisy.shape[1:3]
    zeros = jnp.zeros_like(noisy)
    given = zeros[..., :1]
    if is_past is not None:
      given = given + is_past[:, :, None, None, None]
    past = zeros if past is None else jnp.where(given > 0, past, zeros)
    estimate = zeros if estimate is None else estimate
    inputs = jnp.concatenate([noisy, estimate, past, given], axis=-1)
    # The sum of the branches stays in float32 whatever the products are in.
    tokens = self.input_projection(inputs).astype(jnp.float32)
    spatial = rearrange(self.spatial_positions, "(h w) D -> h w D", h=rows)
    tokens = tokens + spatial + self.temporal_positions[:slots, None, None]
    embedding = self._embed_level(level)
    shared = self.modulation(nn.silu(embedding))
    text = self.text_projection(text)
    for layer in self.layers[:num_blocks]:
      tokens = layer(tokens, text, embedding, shared)
    return tokens

  def _embed_level(self, level: Int[Array, "B"]) -> Float[Array, "B D"]:
    """Embeds noise levels."""
    half = TIME_FEATURES // 2
    rates = 1e4 ** (-np.arange(half, dtype=np.float32) / half)
    angles = level[:, None].astype(jnp.float32) * rates
    waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return self.level_out(nn.silu(self.level_in(waves)))


def _open_gates(key: Array, shape: tuple[int, ...], *args: Any) -> jax.Array:
  """Starts scales and shifts at 0 and gates at 1, as without modulation."""
  del key, args
  return jnp.repeat(jnp.array([0.0, 0.0, 1.0] * 2), shape[0] // 6)


# What follows it scales and shifts.
_PlainNorm = functools.partial(
  nn.LayerNorm,
  epsilon=NORM_EPSILON,
  use_bias=False,
  use_scale=False,
  dtype=jnp.float32,
)
