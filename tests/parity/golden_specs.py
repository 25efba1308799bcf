"""The JSON of a golden -> the spec of its network, family by family."""

from collections.abc import Callable, Mapping
from typing import Any

from forecasting.backbones.spec import BackboneSpec

Sizes = Mapping[str, Any]


def common(name: str, sizes: Sizes, /, **fields: Any) -> BackboneSpec:
  """Returns a spec with what all families write alike.

  Args:
    name: of the case.
    sizes: its JSON.
    **fields: what the family adds or says better.
  """
  known = {
    "resolution": tuple(sizes["input_hw"]),
    "num_frames": sizes["frames"],
    "width": sizes["embed_dim"],
    "depth": sizes["depth"],
    "heads": sizes["num_heads"],
    "mean": tuple(map(float, sizes["mean"])),
    "std": tuple(map(float, sizes["std"])),
  }
  return BackboneSpec(name=name, **{**known, **fields})


def four_ds(name: str, sizes: Sizes) -> BackboneSpec:
  """4DS: `patch_size` is a tubelet; clips may be shorter than the table."""
  tubelet, patch, _ = sizes["patch_size"]
  return common(
    name,
    sizes,
    family="4ds",
    num_frames=sizes["checkpoint_frames"],
    tubelet=tubelet,
    patch=patch,
    mlp_dim=sizes["mlp_hidden"],
    layer=str(sizes["readout_depth"]),
  )


def videoprism(name: str, sizes: Sizes) -> BackboneSpec:
  """VideoPrism: two depths, and tables apart from the clip."""
  spatial, temporal = sizes["num_spatial_layers"], sizes["num_temporal_layers"]
  return common(
    name,
    {**sizes, "embed_dim": sizes["model_dim"], "depth": spatial + temporal},
    family="videoprism",
    tubelet=1,
    patch=sizes["patch_size"],
    mlp_dim=sizes["mlp_dim"],
    sizes={"temporal_depth": temporal, "table": tuple(sizes["pos_emb_shape"])},
  )


GOLDEN_SPECS: Mapping[str, Callable[[str, Sizes], BackboneSpec]] = {
  "4ds": four_ds,
  "videoprism": videoprism,
}
