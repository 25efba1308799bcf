"""Encoders on a part of the tokens of a clip.

The backbones encode whole clips; masked pretraining shows them some tokens
only, each at its own position. The pixels of the others never enter.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Bool, Float, Int

from forecasting.backbones.four_ds import FourDS, to_patches
from forecasting.backbones.rotary import (
  RotaryEncoder,
  rotate_by,
  rotation_angles,
)
from forecasting.backbones.videomae import VideoMae, wave_table
from forecasting.backbones.videoprism import VideoPrism
from forecasting.backbones.vit import Rotate
from forecasting.backbones.vjepa import VJepa
from forecasting.shapes import Array, Params

Grid = tuple[int, int, int]


def take(values: Float[Array, "n D"], index: Int[Array, "*B v"]) -> Array:
  """Returns the rows of some tokens of each clip."""
  return jnp.asarray(values)[index]


def take_tokens(
  tokens: Float[Array, "B n D"], index: Int[Array, "B v"]
) -> Float[Array, "B v D"]:
  """Returns some tokens of each clip."""
  return jnp.take_along_axis(tokens, index[..., None], axis=1)


def rotate_at(grid: Grid, head_dim: int, index: Int[Array, "*B n"]) -> Rotate:
  """Returns the function that turns features by their tokens' positions.

  Args:
    grid: slots, rows and columns of a clip.
    head_dim: features of a head.
    index: flat tokens, of each clip or of all.
  """
  angles = rotation_angles(grid, head_dim)
  cos, sin = (take(f(angles), index) for f in (jnp.cos, jnp.sin))
  if index.ndim == 2:
    cos, sin = (rearrange(x, "B n d -> B 1 n d") for x in (cos, sin))
  return rotate_by(cos, sin)


def encode_visible(
  network: nn.Module,
  params: Params,
  video: Float[Array, "B T H W 3"],
  visible: Int[Array, "B v"],
  mask: Bool[Array, "v v"] | None = None,
) -> Float[Array, "B v D"]:
  """Encodes some tokens of each clip.

  Args:
    network: of the family 4DS, VideoMAE, V-JEPA, V-JEPA 2 or NExT-Vid.
    params: of the network.
    video: whole clips, in the range of the network.
    visible: flat indices of the tokens to encode.
    mask: which of them may look at which; None: all at all. For networks with
      rotary positions only.

  Returns:
    The tokens after the last block and the norm, if there is one.

  Raises:
    TypeError: a network of another family.
  """

  def run(module: Any) -> Array:
    if isinstance(module, FourDS):
      return module(video, visible)
    if not isinstance(module, RotaryEncoder | VideoMae | VJepa):
      raise TypeError(
        f"{type(module).__name__} cannot encode a part of a clip; choose a"
        " backbone of the families 4ds, videomae, vjepa, vjepa2 or next_vid"
      )
    patches = to_patches(video, module.patch)
    tokens = module.patch_embedding(take_tokens(patches, visible))
    if isinstance(module, RotaryEncoder):
      slots, rows, columns = (
        size // part
        for size, part in zip(video.shape[1:4], module.patch, strict=True)
      )
      head_dim = module.width // module.block.heads
      rotate = rotate_at((slots, rows, columns), head_dim, visible)
      return module.encoder(tokens, None, rotate, mask)
    if isinstance(module, VideoMae):
      table = wave_table(patches.shape[1], module.width)
    else:
      # A parameter so that checkpoints hold it, but a fixed table.
      table = jax.lax.stop_gradient(module.positions)
      table = rearrange(table, "t h w D -> (t h w) D")
    return module.encoder(tokens + take(table, visible))

  return network.apply({"params": params}, method=run)


def encode_places(
  network: VideoPrism,
  params: Params,
  video: Float[Array, "B T H W 3"],
  places: Int[Array, "B p"],
) -> Float[Array, "B n D"]:
  """Encodes some places of all frames of each clip.

  Args:
    network: the encoder.
    params: of the network.
    video: whole clips, in the range of the network.
    places: flat indices of a frame's patches.

  Returns:
    The tokens after both transformers, frame by frame.
  """

  def run(module: VideoPrism) -> Array:
    frames, side = video.shape[1], module.patch
    patches = rearrange(
      video, "B T (h p) (w q) c -> B T (h w) (p q c)", p=side, q=side
    )
    patches = jnp.take_along_axis(patches, places[:, None, :, None], axis=2)
    tokens = module.patch_projection(patches)
    tokens = tokens + take(module.spatial_positions, places)[:, None]
    tokens = rearrange(tokens, "B T p D -> (B T) p D")
    tokens = module.spatial_encoder(tokens)
    tokens = rearrange(tokens, "(B T) p D -> (B p) T D", T=frames)
    tokens = module.temporal_encoder(tokens + module.temporal_positions)
    return rearrange(tokens, "(B p) T D -> B (T p) D", p=places.shape[1])

  return network.apply({"params": params}, method=run)
