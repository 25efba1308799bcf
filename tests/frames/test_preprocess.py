"""Labels move with the pixels they belong to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from forecasting.frames import preprocess

SIZE = 64


def _marker_frame(height, width, y, x, half):
  """A gray frame with a bright square around raster position (y, x)."""
  frame = np.full((1, height, width, 3), 40, np.uint8)
  frame[0, y - half : y + half, x - half : x + half] = 240
  return frame


def _centroid(image):
  weight = image[..., 0].astype(float) - 40
  weight[weight < 60] = 0
  rows, columns = np.indices(weight.shape) + 0.5
  return (
    (columns * weight).sum() / weight.sum() / weight.shape[1],
    (rows * weight).sum() / weight.sum() / weight.shape[0],
  )


def test_center_window_of_wide_tall_and_square_frames():
  assert preprocess.center_window(100, 200) == (0, 0.25, 1, 0.75)
  assert preprocess.center_window(200, 100) == (0.25, 0, 0.75, 1)
  assert preprocess.center_window(7, 7) == preprocess.FULL


def test_center_window_is_square_on_the_screen_with_oblong_pixels():
  window = preprocess.center_window(100, 100, pixel_aspect=2.0)
  assert window == (0, 0.25, 1, 0.75)


def test_center_window_refuses_an_empty_frame():
  with pytest.raises(ValueError, match="height 0"):
    preprocess.center_window(0, 10)


@settings(max_examples=40, deadline=None)
@given(
  height=st.integers(80, 300),
  width=st.integers(80, 300),
  row=st.floats(0, 1),
  column=st.floats(0, 1),
  squeeze=st.booleans(),
  flip=st.booleans(),
)
def test_marker_and_label_stay_together(
  height, width, row, column, squeeze, flip
):
  window = (
    preprocess.FULL if squeeze else preprocess.center_window(height, width)
  )
  half = max(2, min(height, width) // 20)
  # The marker lies inside the window, wherever the window is.
  inset = half + 2
  top, bottom = window.top * height + inset, window.bottom * height - inset
  left, right = window.left * width + inset, window.right * width - inset
  y = round(top + row * (bottom - top))
  x = round(left + column * (right - left))
  frames = _marker_frame(height, width, y, x, half)

  tracks, visible = preprocess.crop_points(
    np.array([[[x / width, y / height]]], np.float32),
    np.ones((1, 1), bool),
    window,
  )
  box = np.array(
    [[[(y - half) / height, (x - half) / width,
       (y + half) / height, (x + half) / width]]],
    np.float32,
  )  # fmt: skip
  boxes, mask = preprocess.crop_boxes(box, np.ones((1, 1), bool), window)
  assert visible.all() and mask.all()
  depth = (frames[..., :1] > 140).astype(np.float32)
  clip = {
    "video": preprocess.resize_and_crop(frames, SIZE, window),
    "depth": preprocess.crop_depth(depth, SIZE, window),
    "tracks": tracks,
    "boxes": boxes,
    "box_mask": mask,
  }
  if flip:
    clip = preprocess.flip_horizontal(clip)

  image = clip["video"][0]
  np.testing.assert_allclose(
    clip["tracks"][0, 0], _centroid(image), atol=0.6 / SIZE
  )
  bright = np.argwhere(image[..., 0] > 140)
  seen = [*bright.min(0), *(bright.max(0) + 1)]
  np.testing.assert_allclose(clip["boxes"][0, 0] * SIZE, seen, atol=1.01)
  assert set(np.unique(clip["depth"])) <= {0.0, 1.0}
  where = np.argwhere(clip["depth"][0, ..., 0] > 0)
  np.testing.assert_allclose(
    clip["boxes"][0, 0] * SIZE, [*where.min(0), *(where.max(0) + 1)], atol=1.01
  )


def test_flip_mirrors_once_and_leaves_what_has_no_place():
  generator = np.random.default_rng(0)
  clip = {
    "video": generator.integers(0, 256, (2, 4, 6, 3), np.uint8),
    "seconds": np.array([0, 1], np.float32),
    "tracks": np.array([[[0.25, 0.5]], [[1.5, 0.5]]], np.float32),
    "visible": np.array([[True], [False]]),
    "boxes": np.array([[[0, 0.125, 1, 0.5]], [[0, 0, 0, 0]]], np.float32),
    "box_mask": np.array([[True], [False]]),
  }
  flipped = preprocess.flip_horizontal(clip)
  np.testing.assert_array_equal(
    flipped["video"][:, :, 0], clip["video"][:, :, 5]
  )
  np.testing.assert_array_equal(flipped["tracks"][..., 0], [[0.75], [-0.5]])
  np.testing.assert_array_equal(
    flipped["boxes"][:, 0], [[0, 0.5, 1, 0.875], [0, 0, 0, 0]]
  )
  assert flipped["seconds"] is clip["seconds"]
  twice = preprocess.flip_horizontal(flipped)
  assert twice.keys() == clip.keys()
  for key, value in clip.items():
    np.testing.assert_array_equal(twice[key], value)
    assert twice[key].dtype == value.dtype


def test_points_outside_the_crop_turn_invisible_and_keep_their_place():
  window = preprocess.center_window(100, 200)
  tracks = np.array([[[0.1, 0.5], [0.5, 0.5], [0.75, 1.0]]], np.float32)
  visible = np.array([[True, True, False]])
  moved, seen = preprocess.crop_points(tracks, visible, window)
  np.testing.assert_allclose(
    moved[0], [[-0.3, 0.5], [0.5, 0.5], [1.0, 1.0]], atol=1e-6
  )
  assert seen.tolist() == [[False, True, False]]
  assert moved.dtype == np.float32


def test_boxes_are_clipped_and_those_outside_dropped():
  window = preprocess.center_window(100, 200)
  boxes = np.array(
    [[[0.0, 0.0, 1.0, 0.5], [0.1, 0.0, 0.2, 0.25], [0, 0.3, 1, 0.6]]],
    np.float32,
  )
  mask = np.array([[True, True, False]])
  moved, kept = preprocess.crop_boxes(boxes, mask, window)
  np.testing.assert_allclose(moved[0, 0], [0, 0, 1, 0.5], atol=1e-6)
  assert kept.tolist() == [[True, False, False]]
  assert not moved[0, 1:].any()


def test_resize_is_the_antialiased_bilinear_short_side_resize():
  generator = np.random.default_rng(0)
  frames = generator.integers(0, 256, (2, 64, 96, 3), np.uint8)
  result = preprocess.resize_and_crop(frames, 32)
  for frame, image in zip(frames, result):
    short_side = Image.fromarray(frame).resize((48, 32), Image.BILINEAR)
    cropped = np.asarray(short_side)[:, 8:40].astype(int)
    # Only the borders differ: the crop does not see the pixels beyond it.
    assert np.abs(cropped - image)[:, 1:-1].max() <= 1
  # Antialiased: white noise loses most of its contrast.
  assert result.std() < 0.7 * frames.std()


def test_same_size_is_the_identity():
  frames = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
  np.testing.assert_array_equal(preprocess.resize_and_crop(frames, 16), frames)


def test_depth_keeps_missing_values_apart():
  depth = np.zeros((1, 40, 60, 1), np.float16)
  depth[0, :, 30:] = 7.0
  small = preprocess.crop_depth(depth, 10)
  assert small.dtype == np.float16
  assert set(np.unique(small)) == {0.0, 7.0}
  np.testing.assert_array_equal(small[0, :, :5], 0)
