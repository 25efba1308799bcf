"""Tables of positions for another grid, by the rule of each reference.

Each rule is a small matrix per axis, since no two libraries agree on the
kernel, the borders and what happens when a table shrinks. Output i samples the
input at (i + 0.5) / scale - 0.5, or with the corners aligned.

Source: torch's `interpolate`, SciPy's `zoom`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from forecasting.shapes import Array


def _keys_kernel(distance: np.ndarray, a: float) -> np.ndarray:
  """Returns the cubic convolution kernel of Keys (1981), of support 2."""
  x = np.abs(distance)
  near = ((a + 2) * x - (a + 3)) * x**2 + 1
  far = a * (((x - 5) * x + 8) * x - 4)
  return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def torch_bicubic(
  num_in: int, num_out: int, scale: float | None = None
) -> Float[np.ndarray, "o i"]:
  """Returns one axis of torch's bicubic interpolation without antialiasing.

  Args:
    num_in: length of the axis.
    num_out: wanted length.
    scale: factor that was asked for, which also places the samples; None: the
      ratio of the lengths.

  Returns:
    Weights; four taps per output with a = -0.75, those beyond the border moved
    onto it.
  """
  scale = num_out / num_in if scale is None else scale
  positions = (np.arange(num_out) + 0.5) / scale - 0.5
  first = np.floor(positions).astype(int)
  weights = np.zeros((num_out, num_in))
  for tap in range(-1, 3):
    index = first + tap
    np.add.at(
      weights,
      (np.arange(num_out), index.clip(0, num_in - 1)),
      _keys_kernel(positions - index, a=-0.75),
    )
  return weights


def torch_bicubic_antialiased(
  num_in: int, num_out: int, scale: float | None = None
) -> Float[np.ndarray, "o i"]:
  """Returns one axis of torch's antialiased bicubic interpolation.

  Args:
    num_in: length of the axis.
    num_out: wanted length.
    scale: as in `torch_bicubic`.

  Returns:
    Weights; the kernel has a = -0.5 and widens when the axis shrinks, taps
    beyond the border are dropped and the rest sums to 1.
  """
  step = num_in / num_out if scale is None else 1 / scale
  positions = (np.arange(num_out) + 0.5) * step - 0.5
  distances = np.arange(num_in) - positions[:, None]
  weights = _keys_kernel(distances / max(step, 1.0), a=-0.5)
  return weights / weights.sum(1, keepdims=True)


def aligned_linear(num_in: int, num_out: int) -> Float[np.ndarray, "o i"]:
  """Returns one axis of linear interpolation with the corners aligned.

  Args:
    num_in: length of the axis.
    num_out: wanted length.

  Returns:
    Weights; the first and last outputs are the first and last inputs.
  """
  positions = np.linspace(0, num_in - 1, num_out)
  distances = np.abs(np.arange(num_in) - positions[:, None])
  return np.maximum(1 - distances, 0.0)


def resample(
  table: Float[Array, "i j D"],
  rows: Float[np.ndarray, "h i"],
  columns: Float[np.ndarray, "w j"],
) -> Float[Array, "h w D"]:
  """Applies a matrix to each of the two axes of a table, in float32."""
  return jnp.einsum(
    "hi,wj,ijD->hwD",
    jnp.asarray(rows, jnp.float32),
    jnp.asarray(columns, jnp.float32),
    jnp.asarray(table, jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
