"""Latent slots to frames: the time axis every readout reads.

Video backbones have fewer slots than frames (8 for 16 with tubelets of two).
Readouts are given one entry per frame, so the slots are resized along time.
"""

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Float

from forecasting.shapes import Array, Latents


def to_frames(latents: Latents, num_frames: int) -> Float[Array, "B T N C"]:
  """Resizes latents along time to one entry per frame.

  Args:
    latents: of a clip; at forecast time, context and future concatenated.
    num_frames: T. Latents that already have T slots keep their values.

  Returns:
    float32 features with the token grid flattened row by row.

  Source: the official 4D representations code (cubic interpolation).
  """
  latents = jnp.asarray(latents, jnp.float32)
  if latents.shape[1] != num_frames:
    shape = (latents.shape[0], num_frames, *latents.shape[2:])
    latents = jax.image.resize(latents, shape, method="cubic")
  return einops.rearrange(latents, "B T h w C -> B T (h w) C")
