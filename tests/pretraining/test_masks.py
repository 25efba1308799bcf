"""Blocks, and how places are split."""

import jax
import numpy as np
import pytest

from forecasting.pretraining import masks


def test_blocks_are_rectangles_of_the_area_asked_for():
  draw = jax.vmap(
    lambda key: masks.draw_blocks(key, (16, 16), 1, 0.15, (0.75, 1.5))
  )
  keys = jax.random.split(jax.random.key(0), 2000)
  covered = np.asarray(draw(keys)).reshape(-1, 16, 16)
  areas = []
  for block in covered[:200]:
    rows, columns = np.flatnonzero(block.any(1)), np.flatnonzero(block.any(0))
    height, width = (np.ptp(x) + 1 for x in (rows, columns))
    assert block.sum() == height * width  # a full rectangle
    assert 0.6 < height / width < 1.8
    areas.append(block.mean())
  assert abs(np.mean(areas) - 0.15) < 0.01
  assert (covered.mean(0) > 0).all()  # every place is hidden at times


def test_visible_places_are_free_and_all_others_are_hidden():
  is_hidden = np.zeros(16, bool)
  is_hidden[3:10] = True
  visible, hidden = masks.split_places(jax.random.key(0), is_hidden, 5)
  assert not is_hidden[np.asarray(visible)].any()
  both = np.concatenate([visible, hidden])
  assert sorted(both.tolist()) == list(range(16))
  assert (np.diff(visible) > 0).all() and (np.diff(hidden) > 0).all()
  # More to show than is free: a few hidden ones are shown.
  visible, _ = masks.split_places(jax.random.key(0), is_hidden, 11)
  assert is_hidden[np.asarray(visible)].sum() == 2


@pytest.mark.parametrize(("some", "shown"), [({}, 4), ({"slots": 3}, 3)])
def test_tubes_hide_the_same_places_and_slots_that_are_not_shown(some, shown):
  masking = {"blocks": 2, "area": 0.3, "visible": 0.25} | some
  keys = jax.random.split(jax.random.key(0), 3)
  visible, hidden = masks.draw_tubes(keys, (4, 4, 4), masking, (0.75, 1.5))
  assert visible.shape == (3, 4 * shown)
  assert hidden.shape == (3, 64 - 4 * shown)
  for seen, rest in zip(np.asarray(visible), np.asarray(hidden), strict=True):
    places = seen.reshape(shown, 4) - 16 * np.arange(shown)[:, None]
    assert (places == places[0]).all() and places[0].max() < 16
    assert sorted([*seen, *rest]) == list(range(64))
  first = masks.draw_tubes(keys[:1], (4, 4, 4), masking, (0.75, 1.5))[0]
  np.testing.assert_array_equal(first[0], visible[0])
