"""Frames -> latents, the same for every backbone.

The latents of the context come from a run that sees the context frames alone:
a video backbone mixes all frames it is given, so slots cut from a run over the
whole clip would already know the future (forecaster.md section 3).
"""

import dataclasses
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float

from forecasting.backbones.four_ds import FourDS, blocks_for_depth
from forecasting.backbones.vit import NORM_EPSILON
from forecasting.backbones.weights import file_digest, load_weights
from forecasting.backbones.zoo import BackboneSpec, get_spec
from forecasting.shapes import Array, Params

CONTEXT_MODES = ("crop_pos", "pad_last", "leaky_full_clip")


def build_network(spec: BackboneSpec) -> FourDS:
  """Returns the network of a spec, without parameters.

  Raises:
    ValueError: the family has no network here.
  """
  if spec.family != "4ds":
    raise ValueError(f"{spec.name}: no network for family {spec.family!r}")
  return FourDS(
    patch=(spec.tubelet, spec.patch, spec.patch),
    grid=spec.grid,
    width=spec.width,
    depth=spec.depth,
    heads=spec.heads,
    mlp_dim=spec.mlp_dim,
  )


def num_blocks(spec: BackboneSpec, layer: str) -> int:
  """Returns how many blocks to compute.

  Args:
    spec: the backbone.
    layer: 'default' (the spec's own), 'final' (all blocks), or a relative depth
      in (0, 1] as text, by the family's rule.

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
  return blocks_for_depth(relative_depth, spec.depth)


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

  Attributes:
    spec: what it is.
    params: its weights.
    weights_digest: sha256 of the weights' file, or 'random-<seed>'.
    num_blocks: blocks that are computed.
    context_mode: 'crop_pos', 'pad_last' or 'leaky_full_clip'.
  """

  spec: BackboneSpec
  params: Params
  weights_digest: str
  num_blocks: int
  context_mode: str

  def encode(
    self, params: Params, video: Float[Array, "B T H W 3"]
  ) -> Float[Array, "B t h w C"]:
    """Encodes clips, all frames together.

    Args:
      params: weights; an argument, so that jit does not store them.
      video: frames in [0, 1] at the backbone's resolution; at most as many as
        its full clip has, and whole tubelets.

    Returns:
      Latents, every token normalized.

    Raises:
      ValueError: the frames do not fit the backbone.
    """
    return layer_norm(self.raw_latents(params, video))

  def encode_context(
    self, params: Params, video: Float[Array, "B Tc H W 3"]
  ) -> Float[Array, "B tc h w C"]:
    """Encodes the context frames alone.

    Args:
      params: weights.
      video: the context frames and no others.

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
    return self.encode(params, video)[:, :num_slots]

  def encode_leaky(
    self, params: Params, video: Float[Array, "B T H W 3"], num_context: int
  ) -> Float[Array, "B tc h w C"]:
    """Cuts the context's slots from the encoding of the whole clip.

    The result knows the future. It exists to measure what that is worth, and
    everything made from it is labelled so.

    Args:
      params: weights.
      video: whole clips.
      num_context: frames of the context.

    Returns:
      Latents of the context's slots.
    """
    return self.encode(params, video)[:, : num_context // self.spec.tubelet]

  def raw_latents(
    self, params: Params, video: Float[Array, "B T H W 3"]
  ) -> Float[Array, "B t h w C"]:
    """Returns the chosen layer before normalization; see `encode`."""
    self._check(video)
    video = jnp.asarray(video, jnp.float32)
    if any(self.spec.mean) or any(s != 1.0 for s in self.spec.std):
      video = (video - jnp.array(self.spec.mean)) / jnp.array(self.spec.std)
    tokens = build_network(self.spec).apply(
      {"params": params}, video, None, self.num_blocks
    )
    _, h, w = self.spec.grid
    return rearrange(tokens, "B (t h w) C -> B t h w C", h=h, w=w)

  def _check(self, video: Array) -> None:
    """Raises ValueError unless the frames fit the backbone."""
    spec = self.spec
    frames, *size = video.shape[1:]
    if (
      0 < frames <= spec.num_frames
      and frames % spec.tubelet == 0
      and size == [spec.resolution, spec.resolution, 3]
    ):
      return
    raise ValueError(
      f"{spec.name} takes frames of {spec.resolution} x {spec.resolution} x 3,"
      f" at most {spec.num_frames} and a multiple of {spec.tubelet}; got"
      f" {frames} frames of {' x '.join(map(str, size))}. Resize the frames or"
      " set data.size and data.num_context."
    )


def load_backbone(
  name: str,
  *,
  checkpoint: str | Path | None = None,
  random_init: bool = False,
  layer: str = "default",
  context_mode: str = "default",
  seed: int = 0,
) -> Backbone:
  """Returns a backbone with its weights.

  Args:
    name: of the zoo.
    checkpoint: path of the weights; None: those shipped with the package.
    random_init: random weights instead.
    layer: 'default', 'final' or a relative depth as text.
    context_mode: 'default' or one of the three modes.
    seed: of random weights.

  Raises:
    ValueError: unknown name, layer or mode, or weights that do not fit.
    FileNotFoundError: no weights; says where to get them.
  """
  return load_spec(
    get_spec(name),
    checkpoint=checkpoint,
    random_init=random_init,
    layer=layer,
    context_mode=context_mode,
    seed=seed,
  )


def load_spec(
  spec: BackboneSpec,
  *,
  checkpoint: str | Path | None = None,
  random_init: bool = False,
  layer: str = "default",
  context_mode: str = "default",
  seed: int = 0,
) -> Backbone:
  """Returns a backbone that is not in the zoo; see `load_backbone`."""
  mode = spec.context_mode if context_mode == "default" else context_mode
  if mode not in CONTEXT_MODES:
    raise ValueError(
      f"backbone.context_mode is {mode!r}; expected 'default' or one of"
      f" {', '.join(CONTEXT_MODES)}"
    )
  blocks = num_blocks(spec, layer)
  network = build_network(spec)
  video = jax.ShapeDtypeStruct(
    (1, spec.num_frames, spec.resolution, spec.resolution, 3), jnp.float32
  )
  if random_init:
    # One token is enough to make all parameters.
    token = jnp.zeros((1, 1), jnp.int32)
    init = jax.jit(lambda key, x: network.init(key, x, token)["params"])
    params = init(jax.random.key(seed), jnp.zeros(video.shape, video.dtype))
    digest = f"random-{seed}"
  else:
    path = _find_checkpoint(spec, checkpoint)
    shapes = jax.eval_shape(network.init, jax.random.key(0), video)
    params = load_weights(path, shapes["params"])
    digest = file_digest(path)
  return Backbone(spec, params, digest, blocks, mode)


def _find_checkpoint(spec: BackboneSpec, checkpoint: str | Path | None) -> Path:
  """Returns the path of the weights.

  Raises:
    FileNotFoundError: none given and none shipped.
  """
  if checkpoint is not None:
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
    how = "its weights were never released; set backbone.checkpoint to your own"
  raise FileNotFoundError(
    f"no weights for {spec.name}: {how}, or set backbone.random_init=True for"
    " random weights."
  )
