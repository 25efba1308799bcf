"""NExT-Vid encoders (arXiv 2512.21004).

The network is `rotary.py`'s with a frame-wise causal mask: a token sees its own
slot and earlier ones. So the context's latents are the same whether the future
is encoded with them or not.

No code or weights were found. Sizes, masks and normalization are the paper's;
that positions and names are those of V-JEPA 2, with which the sizes coincide,
is an assumption. A checkpoint is a `.pth` dict `target_encoder` (the reference
encoder; else `encoder`) of names `module.backbone.blocks.0...`, or safetensors
of these or the bare names.
"""

from collections.abc import Sequence
from typing import Any

from forecasting.backbones.rotary import RotaryEncoder, build_rotary
from forecasting.backbones.spec import BackboneSpec, Family, Route, spec_maker
from forecasting.backbones.torch_names import OFFICIAL, find, strip


def build(spec: BackboneSpec, dtype: Any) -> RotaryEncoder:
  """Returns the network of a spec."""
  return build_rotary(spec, dtype, causal=True)


def route(name: str, spec: BackboneSpec) -> Sequence[Route] | None:
  """Returns where an array of a checkpoint goes; see `spec.Family`."""
  return find(strip(name, "module.", "backbone."), OFFICIAL, spec.heads)


_spec = spec_maker(
  family="next_vid",
  resolution=256,
  tubelet=2,
  patch=16,
  mean=(0.5, 0.5, 0.5),
  std=(0.5, 0.5, 0.5),
  options={"weights": "default"},
  source="arXiv 2512.21004",
)


FAMILY = Family(
  name="next_vid",
  build=build,
  route=route,
  containers=("target_encoder", "encoder"),
  specs=(
    _spec(
      "next_vid_tiny",
      96,
      4,
      2,
      384,
      resolution=64,
      patch=8,
      license="Apache-2.0",
      checkpoint="next_vid_tiny.safetensors",
    ),
    _spec("next_vid_l", 1024, 24, 16, 4096, substitute="vjepa2_l"),
    _spec("next_vid_h", 1280, 32, 16, 5120, substitute="vjepa2_h"),
    _spec("next_vid_g", 1408, 40, 22, 6144, substitute="vjepa2_g"),
  ),
)
