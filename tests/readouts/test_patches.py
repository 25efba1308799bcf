"""Patches: order of queries and of the numbers of a patch."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.readouts import patches


def test_order():
  clip = np.random.default_rng(0).normal(size=(2, 4, 6, 8, 3))
  patch = (2, 3, 4)
  cut = patches.patchify(clip, patch)
  assert cut.shape == (2, 2 * 2 * 2, 2 * 3 * 4 * 3)
  for time, row, column in np.ndindex(2, 2, 2):
    query = (time * 2 + row) * 2 + column
    for a, r, s, c in np.ndindex(2, 3, 4, 3):
      number = ((a * 3 + r) * 4 + s) * 3 + c
      np.testing.assert_array_equal(
        cut[:, query, number],
        clip[:, time * 2 + a, row * 3 + r, column * 4 + s, c],
      )


sizes = st.integers(1, 3)


@settings(max_examples=25, deadline=None)
@given(
  st.tuples(sizes, sizes, sizes), st.tuples(sizes, sizes, sizes), sizes, sizes
)
def test_round_trip(grid, patch, channels, batch):
  size = tuple(a * b for a, b in zip(grid, patch, strict=True))
  clip = np.arange(batch * np.prod(size) * channels)
  clip = clip.reshape(batch, *size, channels)
  cut = patches.patchify(clip, patch)
  back = patches.unpatchify(cut, size[0], size[1:], patch)
  np.testing.assert_array_equal(back, clip)
  assert patches.patch_grid(size[0], size[1:], patch) == grid


def test_gather_takes_the_rows_of_patchify():
  clip = np.random.default_rng(0).integers(0, 255, (2, 4, 16, 16, 3))
  index = np.array([5, 0])
  np.testing.assert_array_equal(
    patches.gather_patches(clip, index), patches.patchify(clip)[:, index]
  )


def test_drawn_queries_are_different_and_even():
  counts = np.zeros(12, int)
  for seed in range(200):
    index = np.asarray(patches.draw_query_index(jax.random.key(seed), 12, 5))
    assert len(set(index.tolist())) == 5
    assert index.tolist() == sorted(index.tolist())
    counts[index] += 1
  # Each is drawn 200 * 5 / 12 = 83 times, give or take 7.
  assert counts.min() > 55
  assert counts.max() < 112


@pytest.mark.parametrize("num", [0, 12, 20])
def test_no_draw_stands_for_all(num):
  assert patches.draw_query_index(jax.random.key(0), 12, num) is None


def test_sizes_that_do_not_divide_are_refused():
  with pytest.raises(ValueError, match=r"readout\.patch"):
    patches.patch_grid(16, (64, 60))
