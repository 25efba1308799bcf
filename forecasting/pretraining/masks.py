"""Which places of a clip are hidden from an encoder.

Networks need the same number of tokens in every clip, so a mask is drawn in
two steps: some places are marked as hidden (blocks), then a fixed number of
the others is shown. Hidden from the encoder are thus the blocks and the places
that did not fit into that number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int, Key

from forecasting.shapes import Array, PRNGKey


def draw_blocks(
  key: PRNGKey,
  grid: tuple[int, int],
  count: int,
  area: float,
  aspect: tuple[float, ...],
) -> Bool[Array, "N"]:
  """Marks places that lie in one of several blocks.

  Args:
    key: randomness.
    grid: rows and columns.
    count: number of blocks; they may overlap.
    area: of each block, as a share of all places.
    aspect: least and greatest ratio of rows to columns.

  Returns:
    Whether each place is covered, row by row.

  Source: arXiv 2404.08471, 2512.21004.
  """
  rows, columns = grid
  shape_key, row_key, column_key = jax.random.split(key, 3)
  low, high = aspect
  ratio = jax.random.uniform(shape_key, (count, 1), minval=low, maxval=high)
  size = area * rows * columns
  height = jnp.clip(jnp.round(jnp.sqrt(size * ratio)), 1, rows)
  width = jnp.clip(jnp.round(jnp.sqrt(size / ratio)), 1, columns)
  share = jax.random.uniform(row_key, (count, 1))
  top = jnp.floor(share * (rows - height + 1))
  share = jax.random.uniform(column_key, (count, 1))
  left = jnp.floor(share * (columns - width + 1))
  y, x = jnp.arange(rows), jnp.arange(columns)
  in_rows = (y >= top) & (y < top + height)
  in_columns = (x >= left) & (x < left + width)
  return jnp.any(in_rows[:, :, None] & in_columns[:, None, :], axis=0).ravel()


def split_places(
  key: PRNGKey, is_hidden: Bool[Array, "N"], num_visible: int
) -> tuple[Int[Array, "v"], Int[Array, "m"]]:
  """Chooses the places that the encoder sees.

  Args:
    key: randomness.
    is_hidden: places to hide.
    num_visible: number of places to show. If fewer are free, some that should
      be hidden are shown.

  Returns:
    Visible places and all others, both in ascending order.
  """
  order = jnp.argsort(jax.random.uniform(key, is_hidden.shape) + is_hidden)
  return jnp.sort(order[:num_visible]), jnp.sort(order[num_visible:])


def in_all_slots(
  places: Int[Array, "*B p"], num_slots: int, num_places: int
) -> Int[Array, "*B n"]:
  """Returns the flat tokens of some places in every slot, slot by slot."""
  first = jnp.arange(num_slots)[:, None] * num_places
  tokens = places[..., None, :] + first
  return tokens.reshape(*places.shape[:-1], -1)


def draw_tubes(
  keys: Key[Array, "B"],
  grid: tuple[int, int, int],
  masking: Mapping[str, Any],
  aspect: Sequence[float],
) -> tuple[Int[Array, "B v"], Int[Array, "B m"]]:
  """Draws visible and hidden tokens of clips: the same places in all slots.

  Slots after those that are shown are hidden whole.

  Args:
    keys: one per clip.
    grid: slots, rows and columns.
    masking: 'blocks', their number; 'area' of each; 'visible', the share of
      places that is shown; and, if not all are, 'slots', how many are shown.
    aspect: as in `draw_blocks`.

  Returns:
    Flat tokens, slot by slot.
  """
  slots, rows, columns = grid
  places = rows * columns
  shown = masking.get("slots", slots)
  num_visible = round(masking["visible"] * places)

  def draw(key: PRNGKey) -> tuple[Array, Array]:
    block_key, order_key = jax.random.split(key)
    is_hidden = draw_blocks(
      block_key,
      (rows, columns),
      masking["blocks"],
      masking["area"],
      tuple(aspect),
    )
    return split_places(order_key, is_hidden, num_visible)

  visible, hidden = jax.vmap(draw)(keys)
  later = jnp.arange(shown * places, slots * places)
  later = jnp.broadcast_to(later, (len(hidden), *later.shape))
  return (
    in_all_slots(visible, shown, places),
    jnp.concatenate([in_all_slots(hidden, shown, places), later], axis=1),
  )
