"""What a network is to predict of pixels."""

import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Float

from forecasting.shapes import Array

PIXEL_SCALE = 4.0  # about one over the spread of pixels in [0, 1]
STD_FLOOR = 0.01  # about 2.5 gray levels: below it, contrast is rounding


def patch_targets(
  patches: Float[Array, "B n p"], normalize: bool
) -> Float[Array, "B n p"]:
  """Returns what is to be predicted of tubelets.

  Args:
    patches: flat tubelets, channels last, values in [0, 1].
    normalize: whether to normalize within each tubelet and channel, instead of
      one fixed scale for all pixels.

  Returns:
    Targets with a spread of about 1.
  """
  if not normalize:
    return (patches - 0.5) * PIXEL_SCALE
  pixels = rearrange(patches, "B n (p c) -> B n p c", c=3)
  centered = pixels - reduce(pixels, "B n p c -> B n 1 c", "mean")
  variance = reduce(centered**2, "B n p c -> B n 1 c", "mean")
  centered /= jnp.sqrt(variance + STD_FLOOR**2)
  return rearrange(centered, "B n p c -> B n (p c)")
