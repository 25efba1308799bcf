"""Frames -> latents, the same for every backbone.

The latents of the context come from a run that sees the context frames alone:
a video backbone mixes all frames it is given, so slots cut from a run over the
whole clip would already know the future (forecaster.md section 3).
"""

import dataclasses
import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Key
from ml_collections import ConfigDict

from forecasting.backbones.spec import BackboneSpec
from forecasting.backbones.vit import NORM_EPSILON
from forecasting.backbones.weights import (
  Place,
  file_digest,
  load_weights,
)
from forecasting.backbones.zoo import FAMILIES, get_spec
from forecasting.shapes import Array, Params

CONTEXT_MODES = ("crop_pos", "pad_last", "leaky_full_clip")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def build_network(spec: BackboneSpec, dtype: Any = None) -> nn.Module:
  """Returns the network of a spec, without parameters.

  Args:
    spec: the backbone.
    dtype: of the matrix products; None: that of the parameters.
  """
  return FAMILIES[spec.family].build(spec, dtype)


def to_model_range(
  video: Float[Array, "*B H W 3"], spec: BackboneSpec
) -> Float[Array, "*B H W 3"]:
  """Subtracts a backbone's mean from frames in [0, 1], divides by its std."""
  video = jnp.asarray(video, jnp.float32)
  if not any(spec.mean) and all(std == 1.0 for std in spec.std):
    return video
  return (video - jnp.array(spec.mean)) / jnp.array(spec.std)


def num_blocks(spec: BackboneSpec, layer: str) -> int:
  """Returns how many blocks to compute.

  Args:
    spec: the backbone.
    layer: 'default' (the spec's own), 'final' (all blocks and the model's own
      norm after them), or a relative depth in (0, 1] as text, by the family's
      rule.

  Raises:
    ValueError: none of these.
  """
  layer = spec.layer if layer == "default" else layer
  if layer == "final":
    return spec.depth
  try:
    relative_depth = float(layer)
  except ValueError:
    relative_depth = 0.0
  if not 0.0 < relative_depth <= 1.0:
    raise ValueError(
      f"backbone.layer is {layer!r}; expected 'default', 'final' or a relative"
      " depth in (0, 1] such as '0.95'"
    )
  return FAMILIES[spec.family].blocks_for_depth(relative_depth, spec.depth)


def layer_norm(latents: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
  """Normalizes every token to mean 0 and variance 1, in float32.

  Source: paper 4.3; epsilon as in the backbones.
  """
  latents = jnp.asarray(latents, jnp.float32)
  centered = latents - latents.mean(-1, keepdims=True)
  variance = jnp.square(centered).mean(-1, keepdims=True)
  return centered * jax.lax.rsqrt(variance + NORM_EPSILON)


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A frozen backbone. `encode` and `encode_context` are pure and jit-able.

  The methods take one random key per clip. Only stochastic encoders
  (W.A.L.T.) use them; without keys these encode every clip with the same noise.

  Attributes:
    spec: what it is.
    params: its weights.
    weights_digest: sha256 of the weights' file, or 'random-<seed>'.
    num_blocks: blocks that are computed.
    context_mode: 'crop_pos', 'pad_last' or 'leaky_full_clip'.
    dtype: of the matrix products.
    layernorm: whether tokens are normalized over their channels.
  """

  spec: BackboneSpec
  params: Params
  weights_digest: str
  num_blocks: int
  context_mode: str
  dtype: Any = jnp.float32
  layernorm: bool = True

  def encode(
    self,
    params: Params,
    video: Float[Array, "B T H W 3"],
    keys: Key[Array, "B"] | None = None,
  ) -> Float[Array, "B t h w C"]:
    """Encodes clips, all frames together.

    Args:
      params: weights; an argument, so that jit does not store them.
      video: frames in [0, 1] at the backbone's resolution; at most as many as
        its full clip has, and whole tubelets.
      keys: see the class.

    Returns:
      Latents, every token normalized unless `layernorm` is False, float32.

    Raises:
      ValueError: the frames do not fit the backbone.
    """
    latents = self.raw_latents(params, video, keys)
    return layer_norm(latents) if self.layernorm else latents

  def encode_context(
    self,
    params: Params,
    video: Float[Array, "B Tc H W 3"],
    keys: Key[Array, "B"] | None = None,
  ) -> Float[Array, "B tc h w C"]:
    """Encodes the context frames alone.

    Args:
      params: weights.
      video: the context frames and no others.
      keys: see the class.

    Returns:
      Latents of the context's slots.

    Raises:
      ValueError: the frames do not fit, or the mode is 'leaky_full_clip', which
        needs the whole clip: `encode_leaky`.
    """
    if self.context_mode == "leaky_full_clip":
      raise ValueError(
        "backbone.context_mode 'leaky_full_clip' has no encoding of the context"
        " alone; call encode_leaky with the whole clip"
      )
    num_slots = video.shape[1] // self.spec.tubelet
    if self.context_mode == "pad_last":
      self._check(video)
      missing = self.spec.num_frames - video.shape[1]
      last = jnp.repeat(video[:, -1:], missing, axis=1)
      video = jnp.concatenate([video, last], axis=1)
    return self.encode(params, video, keys)[:, :num_slots]

  def encode_leaky(
    self,
    params: Params,
    video: Float[Array, "B T H W 3"],
    num_context: int,
    keys: Key[Array, "B"] | None = None,
  ) -> Float[Array, "B tc h w C"]:
    """Cuts the context's slots from the encoding of the whole clip.

    The result knows the future. It exists to measure what that is worth, and
    everything made from it is labelled so.

    Args:
      params: weights.
      video: whole clips.
      num_context: frames of the context.
      keys: see the class.

    Returns:
      Latents of the context's slots.
    """
    latents = self.encode(params, video, keys)
    return latents[:, : num_context // self.spec.tubelet]

  def raw_latents(
    self,
    params: Params,
    video: Float[Array, "B T H W 3"],
    keys: Key[Array, "B"] | None = None,
  ) -> Float[Array, "B t h w C"]:
    """Returns the chosen layer before normalization; see `encode`."""
    self._check(video)
    return build_network(self.spec, self.dtype).apply(
      {"params": params},
      to_model_range(video, self.spec),
      self.num_blocks,
      keys,
      method="latents",
    )

  def _check(self, video: Array) -> None:
    """Raises ValueError unless the frames fit the backbone."""
    spec = self.spec
    frames, *size = video.shape[1:]
    rows, columns = spec.frame_size
    if (
      0 < frames <= spec.num_frames
      and frames % spec.tubelet == 0
      and size == [rows, columns, 3]
    ):
      return
    raise ValueError(
      f"{spec.name} takes frames of {rows} x {columns} x 3, at most"
      f" {spec.num_frames} and a multiple of {spec.tubelet}; got {frames}"
      f" frames of {' x '.join(map(str, size))}. Resize the frames or set"
      " data.size and data.num_context."
    )


def parameter_shapes(spec: BackboneSpec) -> Params:
  """Returns the tree of shapes of a backbone's parameters; computes nothing."""
  network = build_network(spec)
  video = jax.ShapeDtypeStruct(
    (1, spec.num_frames, *spec.frame_size, 3), jnp.float32
  )
  init = functools.partial(network.init, method="latents")
  shapes = jax.eval_shape(
    lambda key, frames: init(key, frames, spec.depth), jax.random.key(0), video
  )
  return shapes["params"]


def load_backbone(name: str, **choices: Any) -> Backbone:
  """Returns a backbone of the zoo with its weights.

  Args:
    name: of the zoo.
    **choices: as in `load_spec`.

  Raises:
    ValueError: unknown name, layer, mode, dtype or option, or weights that do
      not fit.
    FileNotFoundError: no weights; says where to get them.
  """
  return load_spec(get_spec(name), **choices)


def load_spec(
  spec: BackboneSpec,
  *,
  checkpoint: str | Path | None = None,
  random_init: bool = False,
  layer: str = "default",
  context_mode: str = "default",
  layernorm: bool = True,
  dtype: str = "float32",
  options: Mapping[str, Any] | ConfigDict | None = None,
  seed: int = 0,
  place: Place = jax.device_put,
) -> Backbone:
  """Returns a backbone with its weights, in the zoo or not.

  Args:
    spec: the backbone.
    checkpoint: path of the weights; None: those shipped with the package.
    random_init: random weights instead.
    layer: 'default', 'final' or a relative depth as text.
    context_mode: 'default' or one of the three modes.
    layernorm: whether tokens are normalized over their channels.
    dtype: of parameters and matrix products, 'float32' or 'bfloat16'.
    options: replaces some of `spec.options`.
    seed: of random weights.
    place: puts a parameter on its devices, sharded if there are several.

  Raises:
    ValueError: unknown layer, mode, dtype or option, or weights that do not
      fit.
    FileNotFoundError: no weights; says where to get them.
  """
  mode = spec.context_mode if context_mode == "default" else context_mode
  for field, value, known in (
    ("context_mode", mode, CONTEXT_MODES),
    ("dtype", dtype, DTYPES),
  ):
    if value not in known:
      raise ValueError(
        f"backbone.{field} is {value!r}; expected one of {', '.join(known)}"
      )
  spec = with_options(spec, options or {})
  blocks = num_blocks(spec, layer)
  if random_init:
    network = build_network(spec)
    video = jnp.zeros((1, spec.num_frames, *spec.frame_size, 3))
    # Under jit the forward pass, whose output nobody uses, is not computed.
    init = jax.jit(
      lambda key, frames: network.init(
        key, frames, spec.depth, method="latents"
      )["params"]
    )
    params = jax.tree.map(
      lambda x: place(x.astype(DTYPES[dtype])),
      init(jax.random.key(seed), video),
    )
    digest = f"random-{seed}"
  else:
    path = find_checkpoint(spec, checkpoint)
    params = load_weights(
      path,
      parameter_shapes(spec),
      FAMILIES[spec.family],
      spec,
      dtype=DTYPES[dtype],
      place=place,
    )
    digest = file_digest(path)
  return Backbone(spec, params, digest, blocks, mode, DTYPES[dtype], layernorm)


def with_options(
  spec: BackboneSpec, options: Mapping[str, Any] | ConfigDict
) -> BackboneSpec:
  """Returns a spec with some of its options replaced.

  Raises:
    ValueError: the backbone has no such option.
  """
  if unknown := sorted(set(options) - set(spec.options)):
    raise ValueError(
      f"backbone.options.{unknown[0]}: {spec.name} has "
      f"{', '.join(spec.options) or 'no options'}"
    )
  return dataclasses.replace(spec, options={**spec.options, **options})


def find_checkpoint(spec: BackboneSpec, checkpoint: str | Path | None) -> Path:
  """Returns the path of a backbone's weights.

  Args:
    spec: the backbone.
    checkpoint: path given by the user; None: those shipped with the package.

  Raises:
    FileNotFoundError: there is no such file, or none given and none shipped;
      says where to get them.
  """
  if checkpoint is not None:
    if not Path(checkpoint).exists():
      raise FileNotFoundError(
        f"no file {checkpoint}; expected weights of {spec.name}"
      )
    return Path(checkpoint)
  released = Path(str(resources.files("forecasting.backbones") / "released"))
  shipped = released / spec.checkpoint
  if spec.checkpoint and shipped.is_file():
    return shipped
  if spec.download:
    how = (
      f"download {spec.download}, license {spec.license}, and set"
      " backbone.checkpoint to its path"
    )
  elif spec.checkpoint:
    how = f"{shipped} should be in the package; install it again"
  else:
    how = "none were ever released; set backbone.checkpoint to your own"
    if spec.substitute:
      how += f", take {spec.substitute}, the nearest with public weights"
  raise FileNotFoundError(
    f"no weights for {spec.name}: {how}, or set backbone.random_init=True for"
    " random weights."
  )
