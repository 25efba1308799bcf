import numpy as np
import pytest

from forecasting.metrics.tracks import (
  average_jaccard,
  forecast_scores,
  tapvid_scores,
)


def _case(seed=0, clips=2, samples=3, frames=16, tracks=5):
  rng = np.random.default_rng(seed)
  true = rng.random((clips, frames, tracks, 2)).astype(np.float32)
  scale = 10 ** rng.uniform(-3.5, -0.8, (clips, samples, frames, tracks, 1))
  noise = rng.normal(size=(clips, samples, frames, tracks, 2)) * scale
  return {
    "pred_xy": (true[:, None] + noise).astype(np.float32),
    "pred_visible": rng.random((clips, samples, frames, tracks)) < 0.7,
    "true_xy": true,
    "true_visible": rng.random((clips, frames, tracks)) < 0.7,
    "track_mask": rng.random((clips, tracks)) < 0.8,
  }


def _loops(pred, pred_seen, true, true_seen, pairs):
  """The definition, pair by pair; points in pixels."""
  jaccards, withins = [], []
  for d in (1, 2, 4, 8, 16):
    tp = fp = visible = near = 0
    for t, q in pairs:
      dx, dy = (float(pred[t, q, i]) - float(true[t, q, i]) for i in (0, 1))
      within = dx * dx + dy * dy < d * d
      tp += bool(true_seen[t, q] and pred_seen[t, q] and within)
      fp += bool(pred_seen[t, q] and (not true_seen[t, q] or not within))
      visible += bool(true_seen[t, q])
      near += bool(true_seen[t, q] and within)
    jaccards.append(tp / (visible + fp) if visible + fp else np.nan)
    withins.append(near / visible if visible else np.nan)
  equal = [bool(true_seen[p] == pred_seen[p]) for p in pairs]
  accuracy = sum(equal) / len(equal) if equal else np.nan
  return jaccards, accuracy, withins


@pytest.mark.parametrize("num_context", [1, 4])
def test_matches_plain_loops(num_context):
  case = _case()
  scores = forecast_scores(**case, num_context=num_context)
  for b in range(2):
    pairs = [
      (t, q)
      for t in range(num_context, 16)
      for q in range(5)
      if case["track_mask"][b, q]
    ]
    for s in range(3):
      jaccards, accuracy, withins = _loops(
        case["pred_xy"][b, s].astype(float) * 256,
        case["pred_visible"][b, s],
        case["true_xy"][b].astype(float) * 256,
        case["true_visible"][b],
        pairs,
      )
      np.testing.assert_array_equal(scores.jaccard[b, s], jaccards)
      np.testing.assert_array_equal(scores.within[b, s], withins)
      assert scores.occlusion_accuracy[b, s] == accuracy
      assert scores.average_jaccard[b, s] == pytest.approx(np.mean(jaccards))
      assert scores.delta_avg[b, s] == pytest.approx(np.mean(withins))


def test_thresholds_are_strict():
  true = np.zeros((1, 5, 1, 2))
  pred = np.zeros((1, 1, 5, 1, 2))
  pred[..., 0] = 4 / 256
  seen = np.ones((1, 5, 1), bool)
  scores = forecast_scores(pred, seen[:, None], true, seen, seen[:, 0])
  assert scores.jaccard[0, 0].tolist() == [0, 0, 0, 1, 1]
  assert scores.within[0, 0].tolist() == [0, 0, 0, 1, 1]


def test_perfect_forecast_scores_one():
  case = _case(1)
  case["pred_xy"] = case["true_xy"][:, None]
  case["pred_visible"] = case["true_visible"][:, None]
  np.testing.assert_array_equal(average_jaccard(**case), 1.0)


def test_all_hidden_has_a_value_only_if_something_is_forecast_visible():
  case = _case(2)
  case["track_mask"][:] = True
  case["true_visible"][0] = False
  case["pred_visible"][0, :2] = False
  case["pred_visible"][0, 2] = True
  values = average_jaccard(**case)
  assert np.isnan(values[0, :2]).all()
  assert values[0, 2] == 0.0
  assert np.isfinite(values[1]).all()


def test_padding_and_context_frames_never_count():
  case = _case(3)
  case["track_mask"][:] = [True, True, True, False, False]
  values = average_jaccard(**case)
  for name in ("pred_xy", "true_xy"):
    case[name][..., 3:, :] = np.nan
    case[name][..., :4, :, :] = np.nan
  case["true_visible"][..., 3:] ^= True
  case["true_visible"][:, :4] ^= True
  np.testing.assert_array_equal(average_jaccard(**case), values)
  trimmed = {
    name: x[..., :3] if x.dtype == bool else x[..., :3, :]
    for name, x in case.items()
  }
  np.testing.assert_array_equal(average_jaccard(**trimmed), values)


def test_non_finite_forecast_is_nan_for_its_sample():
  case = _case(4)
  case["track_mask"][:] = True
  clean = average_jaccard(**case)
  case["pred_xy"][1, 2, 9, 0, 0] = np.nan
  values = average_jaccard(**case)
  assert np.isnan(values[1, 2])
  values[1, 2] = clean[1, 2]
  np.testing.assert_array_equal(values, clean)


def test_order_of_samples_and_batch_do_not_matter():
  case = _case(5)
  values = average_jaccard(**case)
  alone = [
    average_jaccard(**{k: v[i : i + 1] for k, v in case.items()})[0]
    for i in range(2)
  ]
  np.testing.assert_array_equal(values, alone)
  case["pred_xy"] = case["pred_xy"][:, ::-1]
  case["pred_visible"] = case["pred_visible"][:, ::-1]
  np.testing.assert_array_equal(average_jaccard(**case), values[:, ::-1])


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_tapvid_modes_match_plain_loops(mode):
  rng = np.random.default_rng(6)
  true = rng.uniform(0, 256, (2, 4, 10, 2))
  pred = true + rng.normal(size=true.shape) * 5
  true_hidden, pred_hidden = rng.random((2, 2, 4, 10)) < 0.4
  queries = rng.integers(0, 9, (2, 4, 3)).astype(float)
  layout = (queries, true, true_hidden, pred, pred_hidden)
  video = tapvid_scores(*layout, mode=mode)
  track = tapvid_scores(*layout, mode=mode, per_track=True)
  for b in range(2):
    inputs = [
      np.moveaxis(x, 0, 1)
      for x in (pred[b], ~pred_hidden[b], true[b], ~true_hidden[b])
    ]
    pairs = [
      (t, q)
      for t in range(10)
      for q in range(4)
      if (t > queries[b, q, 0] if mode == "first" else t != queries[b, q, 0])
    ]
    jaccards, accuracy, withins = _loops(*inputs, pairs)
    np.testing.assert_array_equal(video.jaccard[b], jaccards)
    np.testing.assert_array_equal(video.within[b], withins)
    assert video.occlusion_accuracy[b] == accuracy
    for q in range(4):
      own = [pair for pair in pairs if pair[1] == q]
      jaccards, accuracy, withins = _loops(*inputs, own)
      np.testing.assert_array_equal(track.jaccard[b, q], jaccards)
      np.testing.assert_array_equal(track.within[b, q], withins)


def test_wrong_arguments_are_refused():
  with pytest.raises(ValueError, match="query frame"):
    average_jaccard(**_case(7), num_context=0)
