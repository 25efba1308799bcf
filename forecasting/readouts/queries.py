"""Points and boxes of the first frame as queries.

Source: the official 4D representations code.
"""

import math

import einops
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from forecasting.readouts.attention import MLP
from forecasting.shapes import Array

NUM_BASES = 16


def fourier_features(
  coordinates: Float[Array, "*X c"], num_bases: int = NUM_BASES
) -> Float[Array, "*X f"]:
  """Replaces coordinates by sines of 16 octaves.

  Args:
    coordinates: normalized.
    num_bases: octaves, from frequency 1.

  Returns:
    2 * num_bases * c numbers: the sines, octave by octave, then the cosines.
  """
  # The order of operations is part of the definition: pi * x is rounded to
  # float32 and then scaled exactly by powers of two. In float64 the highest
  # octaves differ by up to 0.005, with XLA's exp2 (not exact) by 0.05.
  radians = jnp.float32(math.pi) * jnp.asarray(coordinates, jnp.float32)
  octaves = np.exp2(np.arange(num_bases, dtype=np.float32))
  angles = einops.rearrange(
    radians[..., None, :] * octaves[:, None], "... n c -> ... (n c)"
  )
  quarter = jnp.float32(math.pi / 2)
  return jnp.concatenate([jnp.sin(angles), jnp.sin(angles + quarter)], axis=-1)


class QueryInitializer(nn.Module):
  """Fourier features of a point or box, then an MLP.

  Attributes:
    hidden: width between the layers.
    out: width of a query.
    dtype: of the matrix products.
  """

  hidden: int
  out: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, coordinates: Float[Array, "B Q c"]
  ) -> Float[Array, "B Q E"]:
    """Embeds normalized coordinates."""
    mlp = MLP(self.hidden, self.out, self.dtype, name="layers_1")
    return mlp(fourier_features(coordinates))
