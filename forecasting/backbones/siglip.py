"""SigLIP image towers (arXiv 2303.15343, 2502.14786), frame by frame.

Patches of single frames, learned positions, pre-norm blocks with tanh GELU, a
final norm. Latents are the tokens before the attention pooling, which is not
used. The paper's tower, G-opt/14 of PaLI-3, was never released; its public
relatives have the same format.

Files of big_vision hold Flax paths, the image tower below `params/img/`,
`img/` or `opt/target/img/`, with one group per block or with all blocks
stacked on a leading axis; files of transformers are read as well.
"""

import functools
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.backbones.four_ds import PatchKernel, to_patches
from forecasting.backbones.framewise import (
  AUTOMATIC,
  encode_frames,
  frames_at_once,
)
from forecasting.backbones.resampling import aligned_linear, resample
from forecasting.backbones.spec import BackboneSpec, Family, Route, spec_maker
from forecasting.backbones.torch_names import (
  Layout,
  convolution,
  find,
  from_heads,
  linear,
  norm,
  projections,
  strip,
)
from forecasting.backbones.vit import BlockConfig, Transformer
from forecasting.shapes import Array


class SigLip(nn.Module):
  """The encoder.

  Attributes:
    patch: rows and columns of a patch.
    grid: rows and columns of patches of a frame.
    width: features of a token.
    depth: number of blocks that own parameters.
    block: of every block.
    frames_at_once: see `framewise.frames_at_once`.
  """

  patch: int
  grid: tuple[int, int]
  width: int
  depth: int
  block: BlockConfig
  frames_at_once: int = AUTOMATIC

  def setup(self) -> None:
    """Creates the parts; initial values as in the reference."""
    self.patch_embedding = PatchKernel((1, self.patch, self.patch), self.width)
    self.positions = self.param(
      "positions",
      nn.initializers.normal(self.width**-0.5),
      (*self.grid, self.width),
    )
    self.encoder = Transformer(self.depth, self.block, final_norm=True)

  def __call__(
    self, frames: Float[Array, "B H W 3"], num_blocks: int | None = None
  ) -> Float[Array, "B h w D"]:
    """Encodes frames.

    Args:
      frames: normalized.
      num_blocks: blocks to compute; None or all: the final norm follows.

    Returns:
      The tokens of the patches.
    """
    patches = to_patches(frames[:, None], (1, self.patch, self.patch))
    positions = rearrange(self.positions, "h w D -> (h w) D")
    tokens = self.encoder(self.patch_embedding(patches) + positions, num_blocks)
    return rearrange(tokens, "B (h w) D -> B h w D", h=self.grid[0])

  def latents(
    self,
    video: Float[Array, "B T H W 3"],
    num_blocks: int,
    keys: jax.Array | None = None,
  ) -> Float[Array, "B T h w D"]:
    """Encodes clips; see `spec.Family`."""
    del keys
    h, w = self.grid
    count = frames_at_once(self.frames_at_once, video.shape, h * w, self.block)
    return encode_frames(
      self,
      lambda network, frames: network(frames, num_blocks),
      video,
      count,
    )


def build(spec: BackboneSpec, dtype: Any) -> SigLip:
  """Returns the network of a spec."""
  return SigLip(
    patch=spec.patch,
    grid=spec.grid[1:],
    width=spec.width,
    depth=spec.depth,
    block=BlockConfig(
      spec.heads,
      spec.mlp_dim,
      epsilon=spec.sizes.get("epsilon", 1e-6),
      dtype=dtype,
    ),
    frames_at_once=spec.options["frames_at_once"],
  )


def to_grid(
  array: np.ndarray, grid: tuple[int, int]
) -> Float[np.ndarray, "h w D"]:
  """Returns positions `[1 n D]` or `[n D]` on the grid of a frame.

  A square table of another resolution is resampled to a square grid as the
  reference does when it loads one, and says so.

  Args:
    array: the table of a file.
    grid: rows and columns.

  Raises:
    ValueError: the table has another size and one of them is not square.
  """
  array = array.reshape(-1, array.shape[-1])
  side = round(len(array) ** 0.5)
  is_square = side**2 == len(array) and grid[0] == grid[1]
  if len(array) == grid[0] * grid[1] or not is_square:
    return rearrange(array, "(h w) D -> h w D", h=grid[0], w=grid[1])
  warnings.warn(
    f"the checkpoint has positions for {side} x {side} patches; resampled to"
    f" {grid[0]} x {grid[1]}",
    stacklevel=2,
  )
  table = rearrange(array, "(h w) D -> h w D", h=side)
  rule = aligned_linear(side, grid[0])
  return np.asarray(resample(table, rule, rule))


# Group of a block in a big_vision file -> ours.
_ATTENTION = "MultiHeadDotProductAttention_0"
_BLOCK: Mapping[str, str] = {
  "LayerNorm_0": "attention_norm",
  "LayerNorm_1": "mlp_norm",
  "MlpBlock_0/Dense_0": "mlp/dense_in",
  "MlpBlock_0/Dense_1": "mlp/dense_out",
  **{
    f"{_ATTENTION}/{part}": f"attention/{part}"
    for part in ("query", "key", "value", "out")
  },
}

_HF = Layout(
  outer=linear("embeddings.patch_embedding", "patch_embedding", convolution)
  | norm("post_layernorm", "encoder/norm"),
  block=norm("layer_norm1", "attention_norm")
  | norm("layer_norm2", "mlp_norm")
  | projections(*(f"self_attn.{x}_proj" for x in "qkv"))
  | linear("self_attn.out_proj", "attention/out", from_heads)
  | linear("mlp.fc1", "mlp/dense_in")
  | linear("mlp.fc2", "mlp/dense_out"),
  blocks=r"encoder\.layers\.",
)


def _to_kernel(array: np.ndarray) -> np.ndarray:
  """Returns a kernel for frames as one for clips of one frame."""
  return array[None]


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns where an array of a checkpoint goes; see `spec.Family`."""
  if "/" in name or name in ("t", "b"):
    return _route_flax(strip(name, "opt/target/", "params/"), spec)
  name = strip(name, "vision_model.")
  if name == "embeddings.position_embedding.weight":
    return [("positions", functools.partial(to_grid, grid=spec.grid[1:]))]
  if name.startswith(("head.", "text_model.")) or name in _HF_SCALARS:
    return []
  return find(name, _HF, spec.heads)


_HF_SCALARS = ("logit_scale", "logit_bias", "embeddings.position_ids")


def _route_flax(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns where an array of a big_vision file goes."""
  if name in ("t", "b") or name.startswith("txt/"):
    return []
  if not name.startswith("img/"):
    return None
  name = name.removeprefix("img/")
  if name.startswith(("MAPHead_0/", "head/")):
    return []
  if name == "pos_embedding":
    return [("positions", functools.partial(to_grid, grid=spec.grid[1:]))]
  if name == "embedding/kernel":
    return [("patch_embedding/kernel", _to_kernel)]
  if name == "embedding/bias":
    return [("patch_embedding/bias", np.asarray)]
  group, _, leaf = name.removeprefix("Transformer/").rpartition("/")
  if group == "encoder_norm":
    return [(f"encoder/norm/{leaf}", np.asarray)]
  block = re.fullmatch(r"encoderblock(?:_(\d+))?/(.+)", group)
  if not block or block[2] not in _BLOCK:
    return None
  target = f"{_BLOCK[block[2]]}/{leaf}"
  if block[1] is not None:
    return [(f"encoder/layers_{int(block[1])}/{target}", np.asarray)]

  def layer(array: np.ndarray, i: int) -> np.ndarray:
    if len(array) != spec.depth:
      raise ValueError(f"{len(array)} blocks, expected {spec.depth}")
    return array[i]

  return [
    (f"encoder/layers_{i}/{target}", functools.partial(layer, i=i))
    for i in range(spec.depth)
  ]


_BUCKET = "https://storage.googleapis.com/big_vision"


_spec = spec_maker(
  family="siglip",
  resolution=224,
  tubelet=1,
  patch=14,
  mean=(0.5, 0.5, 0.5),
  std=(0.5, 0.5, 0.5),
  options={"frames_at_once": AUTOMATIC},
  source="google-research/big_vision",
)


def _released(file: str, size: str) -> dict[str, str]:
  """Returns the fields of a spec whose weights are in the bucket."""
  return {
    "license": "Apache-2.0",
    "checkpoint": file.rpartition("/")[2],
    "download": f"{_BUCKET}/{file} ({size} with the text tower)",
  }


FAMILY = Family(
  name="siglip",
  build=build,
  route=route,
  specs=(
    _spec(
      "siglip_tiny",
      96,
      4,
      3,
      384,
      resolution=64,
      patch=16,
      license="Apache-2.0",
      checkpoint="siglip_tiny.safetensors",
    ),
    _spec(
      "siglip_l16",
      1024,
      24,
      16,
      4096,
      resolution=256,
      patch=16,
      **_released(
        "siglip/webli_en_l16_256_60552751.npz", "0.65B parameters, 2.6 GB"
      ),
    ),
    _spec(
      "siglip_so400m",
      1152,
      27,
      16,
      4304,
      **_released(
        "siglip/webli_en_so400m_224_57633886.npz", "0.9B parameters, 3.5 GB"
      ),
    ),
    _spec(
      "siglip2_g_opt",
      1536,
      40,
      16,
      6144,
      resolution=256,
      patch=16,
      **_released("siglip2/siglip2_g-opt16_256.npz", "1.9B parameters, 7.5 GB"),
    ),
    _spec("siglip_g_opt", 1536, 48, 16, 8192, substitute="siglip_so400m"),
  ),
)
