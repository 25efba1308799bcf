"""The VideoPrism video encoder (arXiv 2402.13217, google-deepmind/videoprism).

A spatial transformer over the patches of each frame, then a temporal one over
the frames of each place, each with a norm at its end. Attention logits are
capped. Time has no stride: a slot is a frame. Both learned tables of positions
are resized to the clip by antialiased linear interpolation, so 4 frames alone
see 4 averages of an 8-row table.

Official files differ from the parameters here in three ways: the layers of a
stack are one array each, norms store their scale minus one, and the output
projection of attention stores its output axis first.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.backbones.spec import BackboneSpec, Family, Route
from forecasting.backbones.vit import (
  NORM_EPSILON,
  BlockConfig,
  Transformer,
  wave_positions,
)
from forecasting.shapes import Array

LOGIT_CAP = 50.0

# What the video-text and the classification files hold beside the encoder.
_OTHER_PARTS = (
  "text_encoder",
  "auxiliary_encoder",
  "contrastive_vision_pooler",
  "atten_pooler",
  "projection",
)
# Array inside a layer -> parameter of a block.
_IN_LAYER = {
  "layer_norm": "attention_norm",
  "self_attention/query": "attention/query",
  "self_attention/key": "attention/key",
  "self_attention/value": "attention/value",
  "self_attention/post": "attention/out",
  "ff_layer/layer_norm": "mlp_norm",
  "ff_layer/ffn_layer1/linear": "mlp/dense_in",
  "ff_layer/ffn_layer2/linear": "mlp/dense_out",
}
_LEAVES = {"w": "kernel", "b": "bias"}
_OUTSIDE = {
  "patch_projection/linear": "patch_projection",
  "spatial_ln": "spatial_encoder/norm",
  "temporal_ln": "temporal_encoder/norm",
}
_STACK = re.compile(
  r"(spatial|temporal)_encoder/transformers_stack/x_layers(?:_(\d+))?/"
  r"(.+)/(\w+)"
)


class VideoPrism(nn.Module):
  """The encoder.

  Attributes:
    patch: rows and columns of pixels per token.
    table: slots, rows and columns of the tables of positions.
    width: features of a token.
    depths: blocks of the spatial and of the temporal transformer.
    block: of every block.
  """

  patch: int
  table: tuple[int, int, int]
  width: int
  depths: tuple[int, int]
  block: BlockConfig

  def setup(self) -> None:
    slots, rows, columns = self.table
    self.patch_projection = nn.Dense(self.width, dtype=self.block.dtype)
    self.spatial_positions = self.param(
      "spatial_positions",
      lambda _: jnp.array(
        rearrange(
          wave_positions((1, rows, columns), self.width), "1 h w D -> (h w) D"
        )
      ),
    )
    self.temporal_positions = self.param(
      "temporal_positions",
      lambda _: jnp.array(wave_positions((slots, 1, 1), self.width)[:, 0, 0]),
    )
    spatial, temporal = self.depths
    self.spatial_encoder = Transformer(spatial, self.block, final_norm=True)
    self.temporal_encoder = Transformer(temporal, self.block, final_norm=True)

  def latents(
    self,
    video: Float[Array, "B T H W 3"],
    num_blocks: int,
    keys: jax.Array | None = None,
  ) -> Float[Array, "B T h w D"]:
    """Encodes clips; see `spec.Family`.

    Blocks are counted through both transformers; after the last block of each
    its norm follows.
    """
    del keys
    frames, spatial_depth = video.shape[1], self.depths[0]
    patches = rearrange(
      video,
      "B T (h p) (w q) c -> B T h w (p q c)",
      p=self.patch,
      q=self.patch,
    )
    h, w = patches.shape[2:4]
    tokens = rearrange(
      self.patch_projection(patches), "B T h w D -> (B T) (h w) D"
    )
    # The sum of the branches stays in float32 whatever the products are in.
    tokens = tokens.astype(jnp.float32) + self._positions_of_frame(h, w)
    tokens = self.spatial_encoder(tokens, min(num_blocks, spatial_depth))
    if num_blocks > spatial_depth:
      tokens = rearrange(tokens, "(B T) N D -> (B N) T D", T=frames)
      tokens = tokens + self._positions_in_time(frames)
      tokens = self.temporal_encoder(tokens, num_blocks - spatial_depth)
      tokens = rearrange(tokens, "(B N) T D -> (B T) N D", N=h * w)
    return rearrange(tokens, "(B T) (h w) D -> B T h w D", T=frames, h=h)

  def _positions_of_frame(self, h: int, w: int) -> Float[Array, "N D"]:
    """Returns the spatial table for a grid."""
    _, rows, columns = self.table
    table = rearrange(
      self.spatial_positions.astype(jnp.float32), "(h w) D -> h w D", h=rows
    )
    if (h, w) != (rows, columns):
      table = jax.image.resize(table, (h, w, self.width), "bilinear")
    return rearrange(table, "h w D -> (h w) D")

  def _positions_in_time(self, frames: int) -> Float[Array, "T D"]:
    """Returns the temporal table for a number of frames."""
    table = self.temporal_positions.astype(jnp.float32)
    if frames == self.table[0]:
      return table
    return jax.image.resize(table, (frames, self.width), "bilinear")


def build(spec: BackboneSpec, dtype: Any) -> VideoPrism:
  """Returns the network of a spec."""
  temporal = spec.sizes["temporal_depth"]
  return VideoPrism(
    patch=spec.patch,
    table=tuple(spec.sizes["table"]),
    width=spec.width,
    depths=(spec.depth - temporal, temporal),
    block=BlockConfig(
      spec.heads,
      spec.mlp_dim,
      gelu="erf",
      epsilon=NORM_EPSILON,
      logit_cap=LOGIT_CAP,
      dtype=dtype,
    ),
  )


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns where an array of a checkpoint goes; see `spec.Family`."""
  if not name.startswith("params/"):
    return None
  name = name.removeprefix("params/")
  if name.split("/", 1)[0] in _OTHER_PARTS:
    return []
  for prefix in ("vision_encoder/", "encoder/"):
    name = name.removeprefix(prefix)
  if match := _STACK.fullmatch(name):
    part, index, inside, leaf = match.groups()
    return _layer_routes(f"{part}_encoder", index, inside, leaf, spec)
  if name in ("spatial_pos_emb/emb_var", "temporal_pos_emb/emb_var"):
    return [(name.replace("pos_emb/emb_var", "positions"), np.asarray)]
  parent, _, leaf = name.rpartition("/")
  if parent not in _OUTSIDE:
    return None
  return [(f"{_OUTSIDE[parent]}/{leaf}", _change(parent, leaf))]


def _layer_routes(
  encoder: str, index: str | None, inside: str, leaf: str, spec: BackboneSpec
) -> Sequence[Route] | None:
  """Returns the routes of an array of one layer, or of all, stacked."""
  if inside not in _IN_LAYER:
    return None
  target = f"{_IN_LAYER[inside]}/{_LEAVES.get(leaf, leaf)}"
  change = _change(inside, leaf)
  if index is not None:
    return [(f"{encoder}/layers_{index}/{target}", change)]
  temporal = spec.sizes["temporal_depth"]
  depth = temporal if encoder[0] == "t" else spec.depth - temporal
  return [
    (
      f"{encoder}/layers_{i}/{target}",
      functools.partial(_one_of, depth, i, change),
    )
    for i in range(depth)
  ]


def _one_of(
  depth: int,
  index: int,
  change: Callable[[np.ndarray], np.ndarray],
  stacked: np.ndarray,
) -> np.ndarray:
  """Returns one layer of a stack.

  Raises:
    ValueError: the stack has another number of layers.
  """
  if len(stacked) != depth:
    raise ValueError(f"{len(stacked)} layers, expected {depth}")
  return change(stacked[index])


def _change(parent: str, leaf: str) -> Callable[[np.ndarray], np.ndarray]:
  """Returns what to do to an array of one layer."""
  if leaf == "scale":
    return lambda scale: scale + np.ones((), scale.dtype)
  if parent == "self_attention/post" and leaf == "w":
    return lambda kernel: rearrange(kernel, "D K d -> K d D")
  return np.asarray


_LICENSE = "CC-BY-4.0"
_HUB = "https://huggingface.co/google"


def _spec(
  name: str,
  width: int,
  spatial_depth: int,
  heads: int,
  mlp_dim: int,
  slots: int,
  *,
  resolution: int = 288,
  patch: int = 18,
  temporal_depth: int = 4,
  **fields: str,
) -> BackboneSpec:
  """Returns the spec of one size; `slots` is what its temporal table has."""
  side = resolution // patch
  return BackboneSpec(
    name=name,
    family="videoprism",
    resolution=resolution,
    num_frames=16,
    tubelet=1,
    patch=patch,
    width=width,
    depth=spatial_depth + temporal_depth,
    heads=heads,
    mlp_dim=mlp_dim,
    sizes={"temporal_depth": temporal_depth, "table": (slots, side, side)},
    source="google-deepmind/videoprism",
    **fields,
  )


FAMILY = Family(
  name="videoprism",
  build=build,
  route=route,
  specs=(
    _spec(
      "videoprism_tiny",
      96,
      3,
      4,
      384,
      16,
      resolution=64,
      patch=16,
      temporal_depth=1,
      license="Apache-2.0",
      checkpoint="videoprism_tiny.safetensors",
    ),
    _spec(
      "videoprism_b",
      768,
      12,
      12,
      3072,
      16,
      license=_LICENSE,
      checkpoint="flax_base_f16r288_repeated.npz",
      download=(
        "flax_base_f16r288_repeated.npz from"
        f" {_HUB}/videoprism-base-f16r288 (114M parameters, 458 MB)"
      ),
    ),
    _spec(
      "videoprism_l",
      1024,
      24,
      16,
      4096,
      8,
      license=_LICENSE,
      checkpoint="flax_large_f8r288_repeated.npz",
      download=(
        "flax_large_f8r288_repeated.npz from"
        f" {_HUB}/videoprism-large-f8r288 (354M parameters, 1.42 GB)"
      ),
    ),
    _spec("videoprism_g", 1408, 40, 16, 6144, 8, substitute="videoprism_l"),
  ),
)
