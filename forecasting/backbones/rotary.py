"""The video ViT with rotary positions of V-JEPA 2 and NExT-Vid.

Queries and keys of each head are turned in three groups of equal width, by the
slot, the row and the column of their token; what is left of the head stays.
Within a group of g features, features 2i and 2i + 1 are a pair (a, b) that
becomes (a cos - b sin, b cos + a sin), and feature j turns with rate
10000^(-(j mod g/2) / (g/2)): the rates are laid out twice end to end and not
pair by pair, so the two features of a pair turn at different rates. The public
code calls this a bug that its weights were trained with.

Source: facebookresearch/vjepa2 (arXiv 2506.09985).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Bool, Float

from forecasting.backbones.four_ds import PatchKernel, to_patches
from forecasting.backbones.spec import BackboneSpec
from forecasting.backbones.vit import (
  NORM_EPSILON,
  BlockConfig,
  Rotate,
  Transformer,
)
from forecasting.shapes import Array

LONGEST_WAVE = 10000.0


def rotation_angles(
  grid: tuple[int, int, int], head_dim: int
) -> Float[np.ndarray, "n d"]:
  """Returns by how much each feature of each token turns, in radians.

  Args:
    grid: slots, rows and columns of tokens.
    head_dim: features of a head.

  Returns:
    Angles, 0 for the features that are left over.

  Source: facebookresearch/vjepa2.
  """
  half = (head_dim // 3) // 2
  rates = LONGEST_WAVE ** (-np.arange(half) / max(half, 1))
  places = rearrange(np.indices(grid), "a t h w -> (t h w) a")
  angles = repeat(places[:, :, None] * rates, "n a r -> n (a twice r)", twice=2)
  return np.pad(angles, ((0, 0), (0, head_dim - angles.shape[1])))


def make_rotate(grid: tuple[int, int, int], head_dim: int) -> Rotate:
  """Returns the function that turns queries or keys by their positions."""
  angles = rotation_angles(grid, head_dim)
  return rotate_by(np.cos(angles), np.sin(angles))


def rotate_by(cos: Float[Array, "*n d"], sin: Float[Array, "*n d"]) -> Rotate:
  """Returns the function that turns queries or keys by given angles.

  Args:
    cos: of the angles of every token; an axis of clips, and one of heads, may
      come before the tokens.
    sin: of the same angles.
  """
  cos, sin = (jnp.asarray(x, jnp.float32) for x in (cos, sin))

  def rotate(features: Float[Array, "B K n d"]) -> Float[Array, "B K n d"]:
    # In float32: bfloat16 has no digits for the angles of far tokens.
    pairs = jnp.asarray(features, jnp.float32)
    even, odd = pairs[..., 0::2], pairs[..., 1::2]
    # Features left over of a head of odd width have no partner and angle 0.
    odd = jnp.pad(odd, ((0, 0),) * 3 + ((0, even.shape[-1] - odd.shape[-1]),))
    turned = rearrange(jnp.stack([-odd, even], -1), "B K n i s -> B K n (i s)")
    turned = turned[..., : pairs.shape[-1]]
    return (pairs * cos + turned * sin).astype(features.dtype)

  return rotate


def frame_causal(grid: tuple[int, int, int]) -> Bool[Array, "n n"]:
  """Returns the mask by which tokens see their own slot and earlier ones."""
  slots, rows, columns = grid
  slot = repeat(jnp.arange(slots), "t -> (t n)", n=rows * columns)
  return slot[:, None] >= slot[None, :]


class RotaryEncoder(nn.Module):
  """Tubelets, blocks with rotary attention, a norm.

  Attributes:
    patch: frames, rows and columns of a tubelet.
    width: features of a token.
    depth: number of blocks that own parameters.
    block: of every block.
    causal: whether tokens see no later slots.
  """

  patch: tuple[int, int, int]
  width: int
  depth: int
  block: BlockConfig
  causal: bool = False

  def setup(self) -> None:
    """Names the parts as `torch_names.py` expects."""
    self.patch_embedding = PatchKernel(self.patch, self.width)
    self.encoder = Transformer(self.depth, self.block, final_norm=True)

  def latents(
    self,
    video: Float[Array, "B T H W 3"],
    num_blocks: int,
    keys: jax.Array | None = None,
  ) -> Float[Array, "B t h w D"]:
    """Encodes clips of any length; see `spec.Family`.

    Positions are whole numbers from the first slot on, so a shorter clip has
    those of the first slots.
    """
    del keys
    slots, rows, columns = (
      size // part
      for size, part in zip(video.shape[1:4], self.patch, strict=True)
    )
    grid = (slots, rows, columns)
    tokens = self.encoder(
      self.patch_embedding(to_patches(video, self.patch)),
      num_blocks,
      make_rotate(grid, self.width // self.block.heads),
      frame_causal(grid) if self.causal else None,
    )
    return rearrange(tokens, "B (t h w) D -> B t h w D", h=rows, w=columns)


def build_rotary(
  spec: BackboneSpec, dtype: Any, *, causal: bool
) -> RotaryEncoder:
  """Returns the network of a spec.

  Args:
    spec: its `sizes` may say 'epsilon', of the LayerNorms.
    dtype: of the matrix products.
    causal: whether tokens see no later slots.
  """
  return RotaryEncoder(
    patch=(spec.tubelet, spec.patch, spec.patch),
    width=spec.width,
    depth=spec.depth,
    block=BlockConfig(
      spec.heads,
      spec.mlp_dim,
      gelu="erf",
      epsilon=spec.sizes.get("epsilon", NORM_EPSILON),
      dtype=dtype,
    ),
    causal=causal,
  )
