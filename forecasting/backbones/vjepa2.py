"""V-JEPA 2 encoders (arXiv 2506.09985, facebookresearch/vjepa2).

The network is `rotary.py`'s, every token sees all others. Official `.pt` files
hold dicts `encoder`, `predictor` and `target_encoder` (the moving average,
which the public loader takes; the option `weights` names another) with names
`module.backbone.blocks.0...`; their table `pos_embed` is left from an earlier
design and unused. transformers' `VJEPA2Model` names the same arrays otherwise,
with queries, keys and values apart. V-JEPA 2.1 is another network.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from forecasting.backbones.rotary import RotaryEncoder, build_rotary
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
  convolution,
  find,
  from_heads,
  linear,
  norm,
  strip,
  to_heads,
)

_OFFICIAL = dataclasses.replace(
  OFFICIAL, outer=OFFICIAL.outer | {"pos_embed": []}
)
_TRANSFORMERS = Layout(
  outer=linear(
    "encoder.embeddings.patch_embeddings.proj", "patch_embedding", convolution
  )
  | norm("encoder.layernorm", "encoder/norm"),
  block=norm("norm1", "attention_norm")
  | norm("norm2", "mlp_norm")
  | linear("attention.query", "attention/query", to_heads, to_heads)
  | linear("attention.key", "attention/key", to_heads, to_heads)
  | linear("attention.value", "attention/value", to_heads, to_heads)
  | linear("attention.proj", "attention/out", from_heads)
  | linear("mlp.fc1", "mlp/dense_in")
  | linear("mlp.fc2", "mlp/dense_out"),
  blocks=r"encoder\.layer\.",
)
# What transformers' files hold beside the encoder.
_UNUSED = ("predictor.", "pooler.", "classifier.")


def build(spec: BackboneSpec, dtype: Any) -> RotaryEncoder:
  """Returns the network of a spec."""
  return build_rotary(spec, dtype, causal=False)


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns where an array of a checkpoint goes; see `spec.Family`."""
  name = strip(name, "module.", "backbone.", "vjepa2.")
  if name.startswith(_UNUSED):
    return []
  layout = _TRANSFORMERS if name.startswith("encoder.") else _OFFICIAL
  return find(name, layout, spec.heads)


_spec = spec_maker(
  family="vjepa2",
  resolution=256,
  tubelet=2,
  patch=16,
  **IMAGENET,
  options={"weights": "default"},
  source="facebookresearch/vjepa2",
)


def _released(file: str, size: str) -> dict[str, str]:
  """Returns the fields of a spec whose weights are public."""
  return {
    "license": "MIT",
    "checkpoint": file,
    "download": f"https://dl.fbaipublicfiles.com/vjepa2/{file} ({size})",
  }


FAMILY = Family(
  name="vjepa2",
  build=build,
  route=route,
  containers=("target_encoder", "encoder"),
  specs=(
    _spec("vjepa2_tiny", 96, 4, 2, 384, resolution=64, patch=8),
    _spec("vjepa2_l", 1024, 24, 16, 4096, **_released("vitl.pt", "5.1 GB")),
    _spec("vjepa2_h", 1280, 32, 16, 5120, **_released("vith.pt", "10.4 GB")),
    _spec("vjepa2_g", 1408, 40, 22, 6144, **_released("vitg.pt", "16.5 GB")),
    _spec(
      "vjepa2_g_384",
      1408,
      40,
      22,
      6144,
      resolution=384,
      **_released("vitg-384.pt", "16.5 GB"),
    ),
  ),
)
