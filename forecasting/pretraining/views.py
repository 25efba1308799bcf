"""Random views of single frames: crops, mirror images, other light."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from forecasting.shapes import Array, PRNGKey

BRIGHTNESS, CONTRAST, TINT = 0.3, 0.3, 0.15


def draw_view(
  key: PRNGKey,
  frame: Float[Array, "H W 3"],
  size: tuple[int, int],
  scale: tuple[float, float],
) -> tuple[Float[Array, "h w 3"], Bool[Array, ""]]:
  """Draws one view of a frame.

  Args:
    key: randomness.
    frame: pixels in [0, 1].
    size: rows and columns of the view.
    scale: least and greatest share of the frame's area that it shows.

  Returns:
    A crop, mirrored or not, with brightness, contrast and tint changed; and
    whether it is mirrored.

  Source: the augmentations of DINO (arXiv 2104.14294), without blur,
  grayscale and solarization.
  """
  crop_key, flip_key, light_key = jax.random.split(key, 3)
  area_key, place_key = jax.random.split(crop_key)
  low, high = scale
  area = jax.random.uniform(area_key, minval=low, maxval=high)
  extent = jnp.sqrt(area) * jnp.array(frame.shape[:2])
  start = jax.random.uniform(place_key, (2,)) * (
    jnp.array(frame.shape[:2]) - extent
  )
  zoom = jnp.array(size) / extent
  view = jax.image.scale_and_translate(
    frame,
    (*size, 3),
    (0, 1),
    zoom,
    -start * zoom,
    "linear",
    antialias=True,
  )
  is_mirrored = jax.random.bernoulli(flip_key)
  view = jnp.where(is_mirrored, view[:, ::-1], view)
  return jnp.clip(_relight(light_key, view), 0.0, 1.0), is_mirrored


def _relight(
  key: PRNGKey, view: Float[Array, "h w 3"]
) -> Float[Array, "h w 3"]:
  """Changes brightness, contrast and tint."""
  shift, stretch, tint = jax.random.split(key, 3)
  mean = view.mean()
  stretch = 1.0 + CONTRAST * jax.random.uniform(stretch, minval=-1.0)
  shift = BRIGHTNESS * jax.random.uniform(shift, minval=-1.0)
  tint = 1.0 + TINT * jax.random.uniform(tint, (3,), minval=-1.0)
  return ((view - mean) * stretch + mean * (1.0 + shift)) * tint
