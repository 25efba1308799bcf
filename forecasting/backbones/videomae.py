"""VideoMAE (arXiv 2203.12602) and VideoMAEv2 (arXiv 2303.16727).

The encoder of pretraining with nothing masked: tubelets, fixed sines and
cosines of the flat index of a token, pre-norm blocks with erf GELU and no bias
on the keys, a final norm. The decoder is not used. The two versions differ in
their sizes alone. A shorter clip takes the first rows of the positions.

Fine-tuned and distilled models normalize after pooling instead, by an
`fc_norm` that is not used here: they need `options.final_norm=False`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.backbones.four_ds import PatchKernel, to_patches
from forecasting.backbones.spec import (
  IMAGENET,
  BackboneSpec,
  Family,
  Route,
  spec_maker,
)
from forecasting.backbones.torch_names import (
  OFFICIAL,
  Layout,
  Names,
  convolution,
  find,
  from_heads,
  linear,
  norm,
  projections,
  strip,
  to_heads,
)
from forecasting.backbones.vit import BlockConfig, Transformer
from forecasting.shapes import Array

NORM_EPSILON = 1e-6  # transformers writes 1e-12 into its config files


@functools.cache
def wave_table(num_tokens: int, width: int) -> Float[np.ndarray, "n D"]:
  """Returns the sines and cosines of flat indices, interleaved.

  Args:
    num_tokens: rows; a row depends on its index only.
    width: columns; those of each pair share a frequency.

  Source: VideoMAE, after Attention is all you need.
  """
  pair = np.arange(width) // 2
  angles = np.arange(num_tokens)[:, None] / 10000 ** (2 * pair / width)
  even = np.arange(width) % 2 == 0
  return np.where(even, np.sin(angles), np.cos(angles)).astype(np.float32)


class VideoMae(nn.Module):
  """The encoder.

  Attributes:
    patch: frames, rows and columns of a tubelet.
    grid: rows and columns of tubelets.
    width: features of a token.
    depth: number of blocks that own parameters.
    block: of every block.
    final_norm: whether a norm follows the last block.
  """

  patch: tuple[int, int, int]
  grid: tuple[int, int]
  width: int
  depth: int
  block: BlockConfig
  final_norm: bool = True

  def setup(self) -> None:
    """Creates the parts."""
    self.patch_embedding = PatchKernel(self.patch, self.width)
    self.encoder = Transformer(self.depth, self.block, self.final_norm)

  def __call__(
    self, video: Float[Array, "B T H W 3"], num_blocks: int | None = None
  ) -> Float[Array, "B n D"]:
    """Encodes clips.

    Args:
      video: normalized frames.
      num_blocks: blocks to compute; None or all: the final norm follows.

    Returns:
      Tokens in the order time, row, column.
    """
    tokens = self.patch_embedding(to_patches(video, self.patch))
    positions = jnp.asarray(wave_table(tokens.shape[1], self.width))
    return self.encoder(tokens + positions, num_blocks)

  def latents(
    self,
    video: Float[Array, "B T H W 3"],
    num_blocks: int,
    keys: jax.Array | None = None,
  ) -> Float[Array, "B t h w D"]:
    """Encodes clips; see `spec.Family`."""
    del keys
    h, w = self.grid
    tokens = self(video, num_blocks)
    return rearrange(tokens, "B (t h w) D -> B t h w D", h=h, w=w)


def build(spec: BackboneSpec, dtype: Any) -> VideoMae:
  """Returns the network of a spec."""
  return VideoMae(
    patch=(spec.tubelet, spec.patch, spec.patch),
    grid=spec.grid[1:],
    width=spec.width,
    depth=spec.depth,
    block=BlockConfig(
      spec.heads,
      spec.mlp_dim,
      gelu="erf",
      epsilon=spec.options["norm_epsilon"],
      key_bias=False,
      dtype=dtype,
    ),
    final_norm=spec.options["final_norm"],
  )


def _biases(query: str, value: str) -> Names:
  """Returns the names of the biases that lie beside their projections."""
  return {
    query: [("attention/query/bias", to_heads)],
    value: [("attention/value/bias", to_heads)],
  }


_OFFICIAL = dataclasses.replace(
  OFFICIAL, block=OFFICIAL.block | _biases("attn.q_bias", "attn.v_bias")
)

_HF = Layout(
  outer=linear(
    "embeddings.patch_embeddings.projection", "patch_embedding", convolution
  )
  | norm("layernorm", "encoder/norm"),
  block=norm("layernorm_before", "attention_norm")
  | norm("layernorm_after", "mlp_norm")
  | projections(
    *(f"attention.attention.{x}" for x in ("query", "key", "value"))
  )
  | _biases("attention.attention.q_bias", "attention.attention.v_bias")
  | linear("attention.output.dense", "attention/out", from_heads)
  | linear("intermediate.dense", "mlp/dense_in")
  | linear("output.dense", "mlp/dense_out"),
  blocks=r"encoder\.layer\.",
)
_UNUSED = (
  "mask_token",
  "encoder_to_decoder.",
  "decoder.",
  "head.",
  "classifier.",
)


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns where an array of a checkpoint goes; see `spec.Family`.

  Raises:
    ValueError: the checkpoint is of a fine-tuned model, which has no final
      norm, and the options say that there is one.
  """
  name = strip(name, "videomae.")
  if name.startswith(_UNUSED):
    return []
  found = find(name, _HF, spec.heads)
  if found is not None:
    return found
  name = strip(name, "backbone.", "encoder.")
  if name.startswith("fc_norm."):
    if spec.options["final_norm"]:
      raise ValueError(
        "backbone.checkpoint is of a fine-tuned model, whose blocks no norm"
        f" follows (it has {name}); set backbone.options.final_norm=False"
      )
    return []
  return find(name, _OFFICIAL, spec.heads)


_ZOO = "https://github.com/MCG-NJU/VideoMAE/blob/main/MODEL_ZOO.md"
_DISTILLED = "https://huggingface.co/OpenGVLab/VideoMAE2/resolve/main/distill"


_OPTIONS = {"final_norm": True, "norm_epsilon": NORM_EPSILON}
_spec = spec_maker(
  family="videomae",
  resolution=224,
  tubelet=2,
  patch=16,
  **IMAGENET,
  options=_OPTIONS,
  source="MCG-NJU/VideoMAE",
  license="CC-BY-NC-4.0",
)


FAMILY = Family(
  name="videomae",
  build=build,
  route=route,
  containers=("model", "module"),
  specs=(
    _spec(
      "videomae_tiny",
      96,
      4,
      3,
      384,
      resolution=64,
      patch=8,
      license="Apache-2.0",
      checkpoint="videomae_tiny.safetensors",
    ),
    _spec(
      "videomae_b",
      768,
      12,
      12,
      3072,
      checkpoint="checkpoint.pth",
      download=f"ViT-B, pre-train, from {_ZOO} (87M parameters, 350 MB"
      " without the optimizer)",
    ),
    _spec(
      "videomae_l",
      1024,
      24,
      16,
      4096,
      checkpoint="checkpoint.pth",
      download=f"ViT-L, pre-train, from {_ZOO} (304M parameters, 1.3 GB"
      " without the optimizer)",
    ),
    _spec(
      "videomae_h",
      1280,
      32,
      16,
      5120,
      checkpoint="checkpoint.pth",
      download=f"ViT-H, pre-train, from {_ZOO} (632M parameters, 2.6 GB"
      " without the optimizer)",
    ),
    _spec(
      "videomaev2_tiny",
      96,
      4,
      3,
      384,
      resolution=64,
      patch=8,
      source="OpenGVLab/VideoMAEv2",
      license="Apache-2.0",
      checkpoint="videomaev2_tiny.safetensors",
    ),
    _spec(
      "videomaev2_b",
      768,
      12,
      12,
      3072,
      options=_OPTIONS
      | {"final_norm": False},  # fine-tuned while it was distilled
      source="OpenGVLab/VideoMAEv2",
      checkpoint="vit_b_k710_dl_from_giant.pth",
      download=f"{_DISTILLED}/vit_b_k710_dl_from_giant.pth (87M parameters,"
      " 345 MB)",
    ),
    _spec(
      "videomaev2_g",
      1408,
      40,
      16,
      6144,
      patch=14,
      source="OpenGVLab/VideoMAEv2",
      checkpoint="vit_g_hybrid_pt_1200e.pth",
      download="vit_g_hybrid_pt_1200e.pth by the request form in"
      " https://github.com/OpenGVLab/VideoMAEv2/blob/master/docs/MODEL_ZOO.md"
      " (1.0B parameters, 4.1 GB)",
    ),
  ),
)
