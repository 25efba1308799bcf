"""Clips -> context latents and clip latents, with the context kept blind.

Source: forecaster.md section 3, paper 3.2. One function serves extraction and
the leak check, so what is checked is what is stored.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float, UInt8, UInt32

from forecasting.shapes import Array, Params

PREPROCESSING = "uint8 / 255, antialiased bilinear resize to the resolution"


@runtime_checkable
class Encoder(Protocol):
  """What is used of a backbone; see `backbones.encode.Backbone`.

  With a `spec.stochastic` the three methods take one random key per clip as a
  last argument.
  """

  spec: Any
  params: Params
  weights_digest: str
  num_blocks: int
  context_mode: str

  def encode(self, params: Params, video: Array) -> Array: ...

  def encode_context(self, params: Params, video: Array) -> Array: ...

  def encode_leaky(
    self, params: Params, video: Array, num_context: int
  ) -> Array: ...


def encode_clips(
  backbone: Encoder,
  num_context: int,
  params: Params,
  video: UInt8[Array, "B T H W 3"],
  example_ids: UInt32[Array, "B"] | None = None,
) -> tuple[Float[Array, "B tc h w C"], Float[Array, "B t h w C"]]:
  """Encodes clips twice: the context alone, and all frames.

  Args:
    backbone: frozen model.
    num_context: frames of the context.
    params: its weights.
    video: square frames of any size.
    example_ids: identities of the clips, from which a stochastic backbone draws
      its noise; None: the same noise for all.

  Returns:
    Context latents and clip latents, float32. The context does not depend on
    later frames unless the mode is 'leaky_full_clip'. Clips longer than the
    backbone's are encoded in windows, each of which begins with the last
    `num_context` frames of the one before and adds the slots of its others.
  """
  frames = preprocess(video, backbone.spec.resolution)
  keys = ()
  if backbone.spec.stochastic and example_ids is not None:
    keys = (jax.vmap(jax.random.key)(example_ids),)
  # An encoder that names no length takes any.
  window = min(
    frames.shape[1], getattr(backbone.spec, "num_frames", frames.shape[1])
  )
  clip = _encode_windows(
    lambda part: backbone.encode(params, part, *keys),
    frames,
    window,
    num_context,
  )
  if backbone.context_mode == "leaky_full_clip":
    first = frames[:, :window]
    context = backbone.encode_leaky(params, first, num_context, *keys)
  else:
    context = backbone.encode_context(params, frames[:, :num_context], *keys)
  return context.astype(jnp.float32), clip.astype(jnp.float32)


def _encode_windows(
  encode: Callable[[Array], Array],
  frames: Float[Array, "B T R R 3"],
  window: int,
  num_context: int,
) -> Float[Array, "B t h w C"]:
  """Encodes window by window; see `encode_clips`.

  Raises:
    ValueError: the clip is no whole number of windows.
  """
  step, count = window - num_context, frames.shape[1]
  if count < window or (count > window and (count - num_context) % step):
    raise ValueError(
      f"a clip of {count} frames is no whole number of windows of {window} that"
      f" share {num_context}: set data.horizon_frames"
    )
  parts = []
  for start in range(0, count - window + 1, step):
    part = encode(frames[:, start : start + window])
    shared = part.shape[1] * num_context // window if parts else 0
    parts.append(part[:, shared:])
  return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)


def preprocess(
  video: UInt8[Array, "B T H W 3"], resolution: int
) -> Float[Array, "B T R R 3"]:
  """Returns frames in [0, 1] at the resolution of the backbone."""
  frames = jnp.asarray(video, jnp.float32) / 255
  size = (*video.shape[:2], resolution, resolution, 3)
  return (
    frames
    if frames.shape == size
    else jax.image.resize(frames, size, "bilinear")
  )
