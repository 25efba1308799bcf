"""The JSON of a golden -> the spec of its network, family by family."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

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


def transformers(sizes: Sizes) -> Sizes:
  """Returns a JSON with a transformers config in the others' words."""
  config = sizes["hf_config"]
  words = {
    "embed_dim": config["hidden_size"],
    "depth": config["num_hidden_layers"],
    "num_heads": config["num_attention_heads"],
    "norm_eps": config["layer_norm_eps"],
  }
  renamed = {"mlp_ratio", "intermediate_size", "patch_size", "tubelet_size"}
  kept = {key: config[key] for key in renamed & set(config)}
  return {**sizes, **words, **kept}


def dinov2(name: str, sizes: Sizes) -> BackboneSpec:
  """DINOv2: the rule for positions is that of who wrote the golden."""
  config = sizes.get("hf_config")
  if config:
    sizes = {
      **transformers(sizes),
      "pretrain_img_size": config["image_size"],
      "num_register_tokens": config.get("num_register_tokens", 0),
      "activation": "swiglu" if config["use_swiglu_ffn"] else "gelu_erf",
    }
  registers = sizes.get("num_register_tokens", 0)
  gated = any(
    "swiglu" in str(sizes.get(key)) for key in ("activation", "ffn_layer")
  )
  mlp_dim = int(sizes["embed_dim"] * sizes["mlp_ratio"])
  if gated:
    mlp_dim = -(-int(mlp_dim * 2 / 3) // 8) * 8
  return common(
    name,
    sizes,
    family="dinov2",
    tubelet=1,
    patch=sizes["patch_size"],
    mlp_dim=mlp_dim,
    sizes={
      "table": sizes["pretrain_img_size"] // sizes["patch_size"],
      "registers": registers,
      "mlp": "swiglu" if gated else "gelu",
      "epsilon": sizes["norm_eps"],
      "layer_scale": sizes.get("layerscale", True),
      "antialias": sizes.get("interpolate_antialias", registers > 0),
      "offset": sizes.get("interpolate_offset", 0.1) or 0.0,
    },
    options={
      "pos_interp": "hf" if config else "official",
      "frames_at_once": 0,
    },
  )


def siglip(name: str, sizes: Sizes) -> BackboneSpec:
  """SigLIP: the position table is of the frames' grid."""
  if "hf_config" in sizes:
    sizes = transformers(sizes)
    sizes = {**sizes, "mlp_dim": sizes["intermediate_size"]}
  else:
    sizes = {**sizes, "embed_dim": sizes["width"]}
  return common(
    name,
    sizes,
    family="siglip",
    tubelet=1,
    patch=sizes["patch_size"],
    mlp_dim=sizes["mlp_dim"],
    sizes={"epsilon": sizes["norm_eps"]},
    options={"frames_at_once": 0},
  )


def videomae(name: str, sizes: Sizes) -> BackboneSpec:
  """VideoMAE of both versions; transformers may leave out the final norm."""
  config = sizes.get("hf_config", {})
  if config:
    sizes = transformers(sizes)
  hidden = (
    sizes[key] for key in ("mlp_hidden", "intermediate_size") if sizes.get(key)
  )
  return common(
    name,
    sizes,
    family="videomae",
    tubelet=sizes["tubelet_size"],
    patch=sizes["patch_size"],
    mlp_dim=next(hidden, 0) or int(sizes["embed_dim"] * sizes["mlp_ratio"]),
    options={
      "norm_epsilon": sizes["norm_eps"],
      "final_norm": not config.get("use_mean_pooling", False),
    },
  )


def vjepa(name: str, sizes: Sizes) -> BackboneSpec:
  """V-JEPA: the stored positions may be of another shape than the clip."""
  tubelet, patch = sizes["tubelet_size"], sizes["patch_size"]
  rows, columns = np.broadcast_to(sizes["pretrain_img_size"], 2).tolist()
  frames = sizes["pretrain_frames"]
  return common(
    name,
    sizes,
    family="vjepa",
    num_frames=max(frames, sizes["frames"]),
    tubelet=tubelet,
    patch=patch,
    mlp_dim=int(sizes["embed_dim"] * sizes["mlp_ratio"]),
    sizes={
      "table": (frames // tubelet, rows // patch, columns // patch),
      "epsilon": sizes["norm_eps"],
    },
    options={"pos_time": "resize"},
  )


def rotary(name: str, sizes: Sizes) -> BackboneSpec:
  """V-JEPA 2, and NExT-Vid where the attention is causal.

  Unlike in the released files, it is the dict `encoder` of these goldens that
  the outputs belong to, unless the JSON says otherwise.
  """
  averaged = "only target_encoder" in sizes.get("container", "")
  return common(
    name,
    sizes,
    family="next_vid" if sizes["frame_causal"] else "vjepa2",
    tubelet=sizes["tubelet_size"],
    patch=sizes["patch_size"],
    mlp_dim=sizes.get("mlp_hidden")
    or int(sizes["embed_dim"] * sizes["mlp_ratio"]),
    sizes={"epsilon": sizes["norm_eps"]},
    options={"weights": "default" if averaged else "encoder"},
  )


GOLDEN_SPECS: Mapping[str, Callable[[str, Sizes], BackboneSpec]] = {
  "4ds": four_ds,
  "dinov2": dinov2,
  "nextvid_encoder": rotary,
  "siglip": siglip,
  "videomae": videomae,
  "videomaev2": videomae,
  "videoprism": videoprism,
  "vjepa": vjepa,
  "vjepa2_encoder": rotary,
}
