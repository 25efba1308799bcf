import numpy as np
import pytest

from forecasting.metrics.vectors import (
  area_weights,
  boxes_vectors,
  concatenate,
  depth_vectors,
  pixels_vectors,
  points_vectors,
  pool,
)


def _area_mean(image, row, column, cells):
  """Mean over one cell by integrating over a raster that both sizes divide."""
  height, width = image.shape
  fine = np.kron(image, np.ones((cells, cells)))
  block = fine[
    row * height : (row + 1) * height, column * width : (column + 1) * width
  ]
  return block.mean()


@pytest.mark.parametrize("size", [(28, 28), (64, 64), (20, 31), (7, 14)])
def test_pooling_is_the_area_weighted_mean(size):
  image = np.random.default_rng(0).normal(size=size)
  pooled = pool(image)
  expected = [
    [_area_mean(image, r, c, 14) for c in range(14)] for r in range(14)
  ]
  np.testing.assert_allclose(pooled, expected, atol=1e-13)


@pytest.mark.parametrize("size", [14, 28, 64, 100, 128])
def test_weights_cover_every_pixel_exactly_once(size):
  weights = area_weights(size)
  np.testing.assert_array_equal(weights.sum(axis=0), 14)
  np.testing.assert_array_equal(weights.sum(axis=1), size)


def test_divisible_sizes_are_plain_block_means():
  image = np.random.default_rng(1).random((28, 42))
  blocks = image.reshape(14, 2, 14, 3).mean(axis=(1, 3))
  np.testing.assert_allclose(pool(image), blocks, rtol=1e-13)


def test_pixels_are_gray_and_frame_major():
  rng = np.random.default_rng(2)
  pred = rng.random((2, 3, 4, 28, 28, 3)).astype(np.float32)
  target = rng.random((2, 4, 28, 28, 3)).astype(np.float32)
  vectors = pixels_vectors(pred, target)
  assert vectors.pred.shape == (2, 3, 4 * 196)
  assert vectors.truth.shape == (2, 4 * 196)
  block = pred[1, 2, 3, 2:4, 10:12].astype(float).mean()
  assert vectors.pred[1, 2, 3 * 196 + 14 + 5] == pytest.approx(block, rel=1e-12)
  block = target[0, 1, 26:, :2].astype(float).mean()
  assert vectors.truth[0, 196 + 13 * 14] == pytest.approx(block, rel=1e-12)


def test_depth_pools_valid_pixels_only_and_drops_clips_with_empty_cells():
  rng = np.random.default_rng(3)
  target = rng.uniform(1, 5, (3, 2, 28, 28, 1))
  pred = rng.uniform(1, 5, (3, 2, 2, 28, 28, 1))
  valid = np.ones(target.shape, bool)
  valid[0, 1, 0, 0] = False
  target[0, 1, 0, 0] = np.nan
  pred[0, :, 1, 0, 0] = np.inf
  valid[1, 1, 4:6, 6:8] = False
  vectors = depth_vectors(pred, target, valid)
  assert vectors.example.tolist() == [0, 2]
  assert (vectors.num_examples, vectors.num_dropped) == (3, 1)
  others = [(0, 1), (1, 0), (1, 1)]
  for s in range(2):
    cell = np.mean([pred[0, s, 1, r, c, 0] for r, c in others])
    assert vectors.pred[0, s, 196] == pytest.approx(cell, rel=1e-12)
  cell = np.mean([target[0, 1, r, c, 0] for r, c in others])
  assert vectors.truth[0, 196] == pytest.approx(cell, rel=1e-12)
  assert np.isfinite(vectors.pred).all()


def test_depth_of_a_size_that_14_does_not_divide():
  target = np.random.default_rng(4).uniform(1, 5, (1, 1, 20, 20, 1))
  valid = np.random.default_rng(5).random(target.shape) < 0.8
  row = depth_vectors(target[:, None], target, valid)
  image, mask = target[0, 0, :, :, 0], valid[0, 0, :, :, 0].astype(float)
  if row.num_dropped:
    pytest.fail("the seed leaves a cell empty")
  for r, c in ((0, 0), (3, 7), (13, 13)):
    expected = _area_mean(image * mask, r, c, 14) / _area_mean(mask, r, c, 14)
    assert row.truth[0, 14 * r + c] == pytest.approx(expected, rel=1e-12)


def test_points_keep_tracks_that_the_truth_shows_throughout():
  rng = np.random.default_rng(6)
  true = rng.random((2, 16, 4, 2)).astype(np.float32)
  pred = rng.random((2, 3, 16, 4, 2)).astype(np.float32)
  visible = np.ones((2, 16, 4), bool)
  visible[0, 0, 0] = False  # hidden at the query
  visible[0, 15, 1] = False  # hidden once in the future
  visible[0, 2, 2] = False  # hidden in the context only: kept
  mask = np.ones((2, 4), bool)
  mask[1, 3] = False
  vectors = points_vectors(pred, true, visible, mask)
  assert vectors.example.tolist() == [0, 0, 1, 1, 1]
  assert vectors.track.tolist() == [2, 3, 0, 1, 2]
  assert (vectors.num_dropped, vectors.num_frames) == (2, 12)
  np.testing.assert_array_equal(vectors.truth[0], true[0, 4:, 2].ravel())
  np.testing.assert_array_equal(vectors.pred[2, 1], pred[1, 1, 4:, 0].ravel())
  np.testing.assert_array_equal(vectors.pooled()[1], vectors.pred[0, 1])
  np.testing.assert_array_equal(
    vectors.first_sample().pooled(), vectors.pred[:, 0]
  )


def test_boxes_keep_objects_with_a_box_in_every_future_frame():
  rng = np.random.default_rng(7)
  target = rng.random((1, 16, 3, 4)).astype(np.float32)
  pred = rng.random((1, 2, 16, 3, 4)).astype(np.float32)
  box_mask = np.ones((1, 16, 3), bool)
  box_mask[0, 1, 0] = False
  box_mask[0, 4, 1] = False
  vectors = boxes_vectors(pred, target, box_mask, np.ones((1, 3), bool))
  assert vectors.pred.shape == (2, 2, 48)
  np.testing.assert_array_equal(vectors.truth[1], target[0, 4:, 2].ravel())
  np.testing.assert_array_equal(vectors.pred[0, 1], pred[0, 1, 4:, 0].ravel())


def test_no_rows_left_is_not_an_error():
  shape = (2, 16, 3)
  vectors = points_vectors(
    np.zeros((2, 4, 16, 3, 2)),
    np.zeros((*shape, 2)),
    np.zeros(shape, bool),
    np.ones((2, 3), bool),
  )
  assert vectors.pred.shape == (0, 4, 24)
  assert vectors.num_dropped == 6


def test_batches_join_to_the_rows_of_all_clips():
  rng = np.random.default_rng(8)
  true = rng.random((5, 16, 3, 2))
  pred = rng.random((5, 2, 16, 3, 2))
  visible = rng.random((5, 16, 3)) < 0.97
  mask = np.ones((5, 3), bool)
  whole = points_vectors(pred, true, visible, mask)
  arrays = (pred, true, visible, mask)
  parts = [
    points_vectors(*(x[rows] for x in arrays))
    for rows in (slice(0, 2), slice(2, 3), slice(3, 5))
  ]
  joined = concatenate(parts)
  for name in ("pred", "truth", "example", "track"):
    np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
  assert joined.num_dropped == whole.num_dropped
  assert joined.num_examples == 5


def test_joining_refuses_different_layouts():
  video = np.zeros((1, 2, 3, 14, 14, 3))
  two = pixels_vectors(video, video[:, 0])
  with pytest.raises(ValueError, match="parts differ"):
    concatenate([two, two.first_sample()])
  with pytest.raises(ValueError, match="empty"):
    concatenate([])


def test_padding_never_changes_the_rows():
  rng = np.random.default_rng(9)
  true, pred = rng.random((2, 16, 3, 2)), rng.random((2, 4, 16, 3, 2))
  visible, mask = np.ones((2, 16, 3), bool), np.ones((2, 3), bool)
  plain = points_vectors(pred, true, visible, mask)
  padded = points_vectors(
    np.pad(pred, ((0, 0),) * 3 + ((0, 2), (0, 0)), constant_values=np.nan),
    np.pad(true, ((0, 0),) * 2 + ((0, 2), (0, 0)), constant_values=np.nan),
    np.pad(visible, ((0, 0), (0, 0), (0, 2)), constant_values=True),
    np.pad(mask, ((0, 0), (0, 2))),
  )
  np.testing.assert_array_equal(padded.pred, plain.pred)
  np.testing.assert_array_equal(padded.truth, plain.truth)
  assert padded.num_dropped == plain.num_dropped == 0
