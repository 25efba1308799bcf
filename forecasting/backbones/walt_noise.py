"""How W.A.L.T. mixes latents and noise.

  (1) z_t = a_t z + s_t noise,  a_t^2 + s_t^2 = 1
  (2) v = a_t noise - s_t z     what the denoiser is trained to predict

Level t runs from 0, nearly clean, to 999, which is noise alone.

Source: arXiv 2312.06662 section 4, for betas and v; the sign of v is the usual
one.
"""

import math

import numpy as np
from jaxtyping import Float

from forecasting.shapes import Array

NUM_LEVELS = 1000
FIRST_BETA, LAST_BETA = 1e-4, 0.02


def signal_amplitudes() -> Float[np.ndarray, "1000"]:
  """Returns a_t of equation (1) for every noise level, float64.

  Linear betas, rescaled so that the last level is pure noise.

  Source: arXiv 2312.06662 section 4; the rescaling: arXiv 2305.08891.
  """
  betas = np.linspace(FIRST_BETA, LAST_BETA, NUM_LEVELS)
  amplitudes = np.sqrt(np.cumprod(1.0 - betas))
  first, last = amplitudes[0], amplitudes[-1]
  return (amplitudes - last) * (first / (first - last))


def add_noise(
  latents: Float[Array, "*B"], noise: Float[Array, "*B"], level: int
) -> Float[Array, "*B"]:
  """Returns equation (1)."""
  signal = float(signal_amplitudes()[level])
  return signal * latents + math.sqrt(1.0 - signal**2) * noise
