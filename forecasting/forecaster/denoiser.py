"""The transformer shared by all learnt forecasters.

One stack and one set of weights reads context tokens and target tokens, each
in a stream of its own. Under `joint_asym` the context attends to itself only
and the target to both, so the context's keys and values depend neither on the
noise nor on the sample: `encode_context` computes them once per example and
`denoise` reuses them in every call. Noise levels have one value per slot
([B S tf]); clean context is level zero.

  token   = in_proj(p x p latents) + type embedding
  block   : x += gate * attention(modulate(rms(x))); x += gate * swiglu(...)
  modulation = shared(noise embedding) + table of the block    (adaLN-single)
  output  = out_proj(modulate(rms(x)))          zero at initialization

Source: forecaster.md 7; the wide head follows DDT (RAE's stage 2).
"""

from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from forecasting.forecaster import attention, layers
from forecasting.forecaster.architecture import (
  DenoiserConfig,
  mlp_hidden,
  modulate,
  noise_features,
  patchify,
  rms_norm,
  unpatchify,
)
from forecasting.shapes import Array, Context

Cache = Any


class Block(nn.Module):
  """One transformer block, applicable to either stream.

  Attributes:
    width: model width.
    head_dim: dimensions of one head.
    pattern: 'full', 'spatial' or 'temporal'.
    cross: whether targets read the context in a sublayer of its own.
    qk_norm: RMSNorm of queries and keys.
    dtype: type of matrix products.
  """

  width: int
  head_dim: int
  pattern: str
  cross: bool
  qk_norm: bool
  dtype: jnp.dtype

  def setup(self):
    hidden = mlp_hidden(self.width)
    self.qkv = self._dense(3 * self.width)
    self.out = self._dense(self.width)
    self.mlp_in = self._dense(2 * hidden)
    self.mlp_out = self._dense(self.width)
    if self.cross:
      self.cross_q = self._dense(self.width)
      self.cross_kv = self._dense(2 * self.width)
      self.cross_out = self._dense(self.width)
    if self.qk_norm:
      self.q_scale = self.param(
        "q_scale", nn.initializers.ones, (self.head_dim,)
      )
      self.k_scale = self.param(
        "k_scale", nn.initializers.ones, (self.head_dim,)
      )

  def _dense(self, features: int) -> nn.Dense:
    return nn.Dense(features, use_bias=False, dtype=self.dtype)

  def _split(self, x: Array, parts: int) -> list[jax.Array]:
    return jnp.split(
      einops.rearrange(
        x,
        "B S t N (parts K d) -> B S t N (parts K) d",
        d=self.head_dim,
        parts=parts,
      ),
      parts,
      axis=-2,
    )

  def _position(self, x: Array, is_key: bool, angles: Array) -> jax.Array:
    if self.qk_norm:
      x = rms_norm(x) * (self.k_scale if is_key else self.q_scale)
    return attention.rotate(x, angles).astype(self.dtype)

  def _swiglu(self, x: Array) -> jax.Array:
    value, gate = jnp.split(self.mlp_in(x), 2, axis=-1)
    return self.mlp_out(value * nn.silu(gate))

  def _attend_shared(
    self,
    x: Array,
    shared: tuple[Array, Array],
    angles: Array,
    modulation: list[Array],
  ) -> jax.Array:
    shift, scale, gate = modulation
    (q,) = self._split(self.cross_q(modulate(x, shift, scale)), 1)
    mixed = attention.attend_shared(self._position(q, False, angles), *shared)
    return x + gate * self.cross_out(_merge_heads(mixed))

  def __call__(
    self,
    x: Float[Array, "B S t N D"],
    angles: Float[Array, "B t N F"],
    modulation: Float[Array, "..."],
    shared: tuple[Array, Array] | None = None,
    is_context: bool = False,
    is_last: bool = False,
  ) -> tuple[Float[Array, "B S t N D"], tuple[jax.Array, jax.Array] | None]:
    """Applies the block.

    Args:
      x: tokens of one stream.
      angles: their rotary angles.
      modulation: six times the width in the last axis (nine with `cross`),
        broadcast against the tokens.
      shared: this block's keys and values of the context, for the target.
      is_context: whether these tokens are the context, S = 1.
      is_last: whether nothing reads the tokens after this block; then they are
        returned unchanged.

    Returns:
      The new tokens; and of the context the keys and values that targets read,
      [B t N K d] each.
    """
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate, *cross = jnp.split(
      modulation, 9 if self.cross else 6, axis=-1
    )
    normed, own_kv = modulate(x, shift, scale), None
    if is_context and self.cross:
      k, v = self._split(self.cross_kv(normed), 2)
      own_kv = self._position(k, True, angles)[:, 0], v[:, 0]
      if is_last:
        return x, own_kv
    q, k, v = self._split(self.qkv(normed), 3)
    k = self._position(k, True, angles)
    if is_context and not self.cross:
      own_kv = k[:, 0], v[:, 0]
      if is_last:
        return x, own_kv
    q = self._position(q, False, angles)
    joint = (None, None) if self.cross or shared is None else shared
    mixed = attention.attend_grid(self.pattern, q, k, v, *joint)
    x += gate * self.out(_merge_heads(mixed))
    if self.cross and shared is not None:
      x = self._attend_shared(x, shared, angles, cross)
    x += mlp_gate * self._swiglu(modulate(x, mlp_shift, mlp_scale))
    return x, own_kv


def _merge_heads(x: Array) -> jax.Array:
  return einops.rearrange(x, "B S t N K d -> B S t N (K d)")


class Denoiser(nn.Module):
  """Noisy future latents to a prediction, given past latents.

  Attributes:
    config: size and switches.
    channels: latent channels.
  """

  config: DenoiserConfig
  channels: int

  def setup(self):
    config, dtype = self.config, self.config.compute_dtype
    width = config.width
    self.context_in = nn.Dense(width, dtype=dtype)
    self.target_in = nn.Dense(width, dtype=dtype)
    constant = nn.initializers.normal(config.type_scale)
    self.context_type = self.param("context_type", constant, (width,))
    self.target_type = self.param("target_type", constant, (width,))
    absent = nn.initializers.normal(0.02)
    self.absent_context = self.param("absent_context", absent, (width,))
    self.noise_mlp = nn.Sequential([nn.Dense(width), nn.silu, nn.Dense(width)])
    if config.condition_dim:
      self.condition_in = nn.Dense(width, use_bias=False)
    factor = 9 if config.conditioning == "cross" else 6
    zeros = nn.initializers.zeros
    self.modulation = nn.Dense(factor * width, kernel_init=zeros)
    self.tables = self.param("tables", zeros, (config.depth, factor * width))
    patterns = ("spatial", "temporal")
    block = Block
    if config.remat_policy is not None:
      # The last two arguments choose what is computed. In a loop nothing can be
      # merged with the forward pass, so that this need not be prevented.
      block = nn.remat(
        Block,
        static_argnums=(5, 6),
        policy=config.remat_policy,
        prevent_cse=not config.scans,
      )
    self.blocks = [
      block(
        width,
        config.head_dim,
        patterns[i % 2] if config.attention == "factorized" else "full",
        config.conditioning == "cross",
        config.qk_norm,
        dtype,
      )
      for i in range(config.depth)
    ]
    out_width = config.head_width or width
    self.out_modulation = nn.Dense(2 * out_width, kernel_init=zeros)
    self.out_proj = nn.Dense(self.channels * config.patch**2, kernel_init=zeros)
    if config.head_width:
      self.head = WideHead(config, dtype)

  def _angles(self, times: Array, grid: tuple[int, int]) -> jax.Array:
    patch = self.config.patch
    return attention.rotary_angles(
      times, grid[0] // patch, grid[1] // patch, self.config.head_dim
    )

  def _noise(
    self, t: Float[Array, "B S t"], condition: Array | None = None
  ) -> jax.Array:
    """Embeds noise levels; the position axis is kept for broadcasting."""
    embedding = self.noise_mlp(noise_features(t))
    if condition is not None:
      embedding += self.condition_in(condition)[:, :, None]
    return nn.silu(embedding)[..., None, :]

  def _context_tokens(self, context: Array, drop: Array | None) -> jax.Array:
    tokens = self.context_in(patchify(context, self.config.patch))
    if drop is not None:
      tokens = jnp.where(drop[:, None, None, None], self.absent_context, tokens)
    return (tokens + self.context_type)[:, None]

  def _stack(
    self, apply: layers.ApplyBlock, x: Array, shared: Any
  ) -> tuple[jax.Array, Any]:
    """Applies all blocks; a loop of the compiled program if `config.scan`."""
    # Parameters have to exist before they can be stacked.
    scan = self.config.scans and not self.is_initializing()
    period = 2 if self.config.attention == "factorized" else 1
    return layers.apply_blocks(
      apply, self.blocks, self.tables, x, shared, period if scan else 0
    )

  def encode_context(
    self,
    context: Context,
    times: Float[Array, "B t"],
    t_noise: Float[Array, "B tc"] | None = None,
    drop: Bool[Array, "B"] | None = None,
  ) -> Cache:
    """Computes what all noise levels and samples of an example share.

    Args:
      context: past latents in the forecaster's scale.
      times: seconds of all slots, context first.
      t_noise: noise levels of the context slots; None is clean.
      drop: examples whose context is replaced by a learnt token.

    Returns:
      The cache to hand to `denoise`.
    """
    tc = context.shape[1]
    angles = self._angles(times[:, :tc], context.shape[2:4])
    x = self._context_tokens(context, drop)
    levels = jnp.zeros(context.shape[:2]) if t_noise is None else t_noise
    noise = self._noise(levels[:, None])
    if self.config.conditioning == "joint_full":
      return {"tokens": x, "noise": noise, "angles": angles}
    modulation = self.modulation(noise)

    def apply(block, x, table, _, is_last):
      return block(x, angles, modulation + table, None, True, is_last)

    _, shared = self._stack(apply, x, None)
    return {"shared": shared}

  def denoise(
    self,
    cache: Cache,
    z: Float[Array, "B S tf h w C"],
    t_noise: Float[Array, "B S tf"],
    times: Float[Array, "B t"],
    condition: Float[Array, "B S k"] | None = None,
  ) -> Float[Array, "B S tf h w C"]:
    """Predicts from noisy targets.

    Args:
      cache: of `encode_context`.
      z: noisy targets; S samples, or noise draws, of each example.
      t_noise: their noise levels per slot.
      times: seconds of all slots, context first.
      condition: of size `config.condition_dim`, if that is not 0.

    Returns:
      The network's output in the shape of `z`, float32.
    """
    tf, rows, columns = z.shape[2:5]
    patches = patchify(z, self.config.patch)
    x = self.target_in(patches) + self.target_type
    angles = self._angles(times[:, -tf:], (rows, columns))
    noise = target_noise = self._noise(t_noise, condition)
    if self.config.conditioning == "joint_full":
      tc = cache["tokens"].shape[2]
      x, noise = (
        jnp.concatenate(
          [jnp.broadcast_to(past, (*now.shape[:2], *past.shape[2:])), now],
          axis=2,
        )
        for past, now in ((cache["tokens"], x), (cache["noise"], noise))
      )
      angles = jnp.concatenate([cache["angles"], angles], axis=1)
    modulation = self.modulation(noise)

    def apply(block, x, table, kv, _):
      # All in place: rematerialization counts the arguments.
      return block(x, angles, modulation + table, kv, False, False)

    x, _ = self._stack(apply, x, cache.get("shared"))
    if self.config.conditioning == "joint_full":
      x, angles = x[:, :, tc:], angles[:, tc:]
    condition = target_noise
    if self.config.head_width:
      x, condition = self.head(patches, x, target_noise, angles)
    shift, scale = jnp.split(self.out_modulation(condition), 2, axis=-1)
    out = self.out_proj(modulate(x.astype(jnp.float32), shift, scale))
    return unpatchify(out, rows, self.config.patch)

  def __call__(
    self,
    context: Context,
    z: Float[Array, "B S tf h w C"],
    t_noise: Float[Array, "B S tf"],
    times: Float[Array, "B t"],
    condition: Float[Array, "B S k"] | None = None,
  ) -> Float[Array, "B S tf h w C"]:
    """Encodes the context and predicts, as initialization needs it."""
    cache = self.encode_context(context, times)
    return self.denoise(cache, z, t_noise, times, condition)


class WideHead(nn.Module):
  """Blocks wider than the trunk that see the noisy target again.

  The trunk's output, plus the noise embedding, modulates them per token, so
  the trunk may be narrower than a token's noise.

  Attributes:
    config: size and switches of the whole network.
    dtype: type of matrix products.
  """

  config: DenoiserConfig
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self,
    patches: Float[Array, "B S t N c"],
    trunk: Float[Array, "B S t N D"],
    noise: Float[Array, "B S t 1 D"],
    angles: Float[Array, "B t N F"],
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the wide tokens and the condition that modulates the output."""
    config, width = self.config, self.config.head_width
    condition = nn.silu(rms_norm(trunk) + noise)
    x = nn.Dense(width, dtype=self.dtype, name="proj_in")(patches)
    for i in range(config.head_depth):
      modulation = nn.Dense(
        6 * width,
        kernel_init=nn.initializers.zeros,
        dtype=self.dtype,
        name=f"modulation_{i}",
      )(condition)
      x, _ = Block(
        width,
        config.head_dim,
        "full",
        False,
        config.qk_norm,
        self.dtype,
        name=f"block_{i}",
      )(x, angles, modulation)
    return x, condition
