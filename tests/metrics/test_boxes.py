import numpy as np
import pytest

from forecasting.metrics.boxes import mean_iou, pair_iou


@pytest.mark.parametrize(
  ("pred", "target", "expected"),
  [
    ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),
    ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7),
    ([0, 0, 1, 1], [1, 0, 2, 1], 0.0),  # touching
    ([2, 2, 0, 0], [0, 0, 2, 2], 0.0),  # inverted
    ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),  # empty union
    ([-1, -1, 1, 1], [0, 0, 1, 1], 0.25),  # not clipped to the image
    ([np.nan, 0, 1, 1], [0, 0, 1, 1], np.nan),
    ([0, 0, np.inf, 1], [0, 0, 1, 1], np.nan),
  ],
)
def test_hand_computed_pairs(pred, target, expected):
  iou = pair_iou(np.array([pred], float), np.array([target], float))
  np.testing.assert_allclose(iou, [expected], rtol=1e-15)


def test_matches_counting_on_a_fine_raster():
  rng = np.random.default_rng(0)
  corners = rng.integers(0, 40, (20, 2, 2, 2))
  boxes = np.concatenate([corners.min(2), corners.max(2) + 1], -1) / 41
  for a, b in boxes:
    inside = []
    for ymin, xmin, ymax, xmax in (a, b):
      y, x = np.mgrid[:41, :41] / 41 + 0.5 / 41
      inside.append((y > ymin) & (y < ymax) & (x > xmin) & (x < xmax))
    expected = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    assert pair_iou(a[None], b[None])[0] == pytest.approx(expected, abs=1e-12)


def _case(seed=1):
  rng = np.random.default_rng(seed)
  corner = rng.random((2, 16, 3, 2)) * 0.5
  target = np.concatenate([corner, corner + 0.3], -1)
  return {
    "pred": target[:, None] + rng.normal(size=(2, 4, 16, 3, 4)) * 0.05,
    "target": target,
    "box_mask": rng.random((2, 16, 3)) < 0.6,
    "object_mask": np.array([[True, True, False], [True, False, True]]),
  }


def test_mean_matches_plain_loops():
  case = _case()
  values = mean_iou(**case)
  for b in range(2):
    for s in range(4):
      pairs = [
        pair_iou(case["pred"][b, s, t], case["target"][b, t])[q]
        for t in range(4, 16)
        for q in range(3)
        if case["box_mask"][b, t, q] and case["object_mask"][b, q]
      ]
      assert values[b, s] == pytest.approx(sum(pairs) / len(pairs), rel=1e-13)


def test_masked_boxes_never_count():
  case = _case(2)
  values = mean_iou(**case)
  counted = case["box_mask"] & case["object_mask"][:, None]
  counted[:, :4] = False
  case["target"][~counted] = np.nan
  case["pred"] = np.where(counted[:, None, ..., None], case["pred"], np.inf)
  np.testing.assert_array_equal(mean_iou(**case), values)


def test_clip_without_pair_has_no_value():
  case = _case(3)
  case["box_mask"][0, 4:] = False
  case["box_mask"][0, :4] = True
  values = mean_iou(**case)
  assert np.isnan(values[0]).all()
  assert np.isfinite(values[1]).all()


def test_non_finite_forecast_is_nan_for_its_sample():
  case = _case(4)
  case["box_mask"][:] = True
  case["pred"][1, 2, 7, 0, 3] = np.nan
  assert np.argwhere(np.isnan(mean_iou(**case))).tolist() == [[1, 2]]


def test_query_frame_is_refused():
  with pytest.raises(ValueError, match="query frame"):
    mean_iou(**_case(5), num_context=0)
