"""Size and switches of the denoiser, and its layers without parameters."""

import dataclasses
from collections.abc import Callable

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from forecasting.forecaster import attention
from forecasting.shapes import Array

CONDITIONINGS = ("joint_asym", "joint_full", "cross")
ATTENTIONS = ("full", "factorized")
SCANS = ("default", "always", "never")
DTYPES = ("default", "bfloat16", "float32")
# What a block keeps for the backward pass; it computes the rest again.
REMATS = {
  "none": None,  # all is kept
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}
_NOISE_FREQUENCIES = 64
NUM_NOISE_FEATURES = 2 * _NOISE_FREQUENCIES
_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
  """Size and switches of the transformer; fields of `config.forecaster.model`.

  Attributes:
    width: model width.
    depth: blocks.
    heads: attention heads.
    patch: latent tokens merged per side into one token of the network.
    conditioning: one of CONDITIONINGS.
    attention: 'full', or 'factorized': even blocks within a slot, odd blocks
      along time.
    qk_norm: RMSNorm of queries and keys.
    type_scale: deviation of the initial type embedding, the constant part of
      every token. RMSNorm divides by the size of token and constant together:
      a large constant keeps that nearly the same for all tokens, and with it
      how large a latent is.
    head_width: width of the wide head; 0 for none.
    head_depth: blocks of the wide head.
    condition_dim: size of a vector per sample that modulates the target beside
      its noise level; 0 for none. Set by the forecaster that needs one.
    dtype: type of matrix products; 'default' is bfloat16 on accelerators and
      float32 on CPU.
    remat: what blocks keep for the backward pass: 'none' all, 'dots' only the
      products with weights, 'full' only their input; 'default' is 'dots' where
      the blocks are looped over, whose intermediate values no compiler thins
      out, else 'none'.
    scan: whether the blocks are compiled once and looped over, 'always' or
      'never'; 'default' is on accelerators, where compiling each takes minutes.
  """

  width: int
  depth: int
  heads: int
  patch: int = 1
  conditioning: str = "joint_asym"
  attention: str = "full"
  qk_norm: bool = True
  type_scale: float = 0.02
  head_width: int = 0
  head_depth: int = 2
  condition_dim: int = 0
  dtype: str = "default"
  remat: str = "default"
  scan: str = "default"

  def __post_init__(self):
    for field, allowed in (
      ("remat", ("default", *REMATS)),
      ("conditioning", CONDITIONINGS),
      ("attention", ATTENTIONS),
      ("dtype", DTYPES),
      ("scan", SCANS),
    ):
      if getattr(self, field) not in allowed:
        raise ValueError(
          f"forecaster.model.{field} is {getattr(self, field)!r}: one of"
          f" {allowed}."
        )
    if self.width % self.heads:
      raise ValueError(
        f"forecaster.model.width {self.width} is not a multiple of"
        f" forecaster.model.heads {self.heads}."
      )
    if self.head_width % (self.width // self.heads):
      raise ValueError(
        f"forecaster.model.head_width {self.head_width} is not a multiple of"
        f" the head dimension width / heads = {self.width // self.heads}."
      )
    attention.frequencies_per_axis(self.width // self.heads)

  @property
  def head_dim(self) -> int:
    """Dimensions of one attention head."""
    return self.width // self.heads

  @property
  def compute_dtype(self) -> jnp.dtype:
    """Type of matrix products."""
    if self.dtype == "default":
      on_cpu = jax.default_backend() == "cpu"
      return jnp.dtype(jnp.float32 if on_cpu else jnp.bfloat16)
    return jnp.dtype(self.dtype)

  @property
  def scans(self) -> bool:
    """Whether the blocks are looped over."""
    if self.scan == "default":
      return jax.default_backend() != "cpu"
    return self.scan == "always"

  @property
  def remat_policy(self) -> Callable[..., bool] | None:
    """What blocks keep for the backward pass; None for all."""
    if self.remat == "default":
      return REMATS["dots" if self.scans else "none"]
    return REMATS[self.remat]


def mlp_hidden(width: int) -> int:
  """Hidden size of the SwiGLU: 8/3 of the width, up to a multiple of 8."""
  return -(-8 * width // 24) * 8


def patchify(latents: Float[Array, "*B h w C"], patch: int) -> jax.Array:
  """Merges squares of latents into tokens: [... (h p) (w p) C -> ... N c].

  Raises:
    ValueError: if the grid is no multiple of `patch`.
  """
  if latents.shape[-3] % patch or latents.shape[-2] % patch:
    raise ValueError(
      f"forecaster.model.patch {patch} does not divide the latent grid"
      f" {latents.shape[-3:-1]}."
    )
  return einops.rearrange(
    latents,
    "... (h p) (w q) C -> ... (h w) (p q C)",
    p=patch,
    q=patch,
  )


def unpatchify(
  tokens: Float[Array, "*B N c"], rows: int, patch: int
) -> jax.Array:
  """Undoes `patchify` for a grid of `rows` latent rows."""
  return einops.rearrange(
    tokens,
    "... (h w) (p q C) -> ... (h p) (w q) C",
    h=rows // patch,
    p=patch,
    q=patch,
  )


def rms_norm(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """RMSNorm without scale; statistics in float32."""
  square = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
  return (x * jax.lax.rsqrt(square + _EPS)).astype(x.dtype)


def modulate(
  x: Float[Array, "..."], shift: Float[Array, "..."], scale: Float[Array, "..."]
) -> Float[Array, "..."]:
  """RMSNorm followed by scale and shift."""
  return rms_norm(x) * (1.0 + scale) + shift


def noise_features(t: Float[Array, "*B"]) -> Float[Array, "*B F"]:
  """Sines and cosines of a noise level in [0, 1]."""
  rates = jnp.asarray(
    np.geomspace(1.0, 1000.0, _NOISE_FREQUENCIES), jnp.float32
  )
  angles = t[..., None].astype(jnp.float32) * rates
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
