"""Linear probes against a regression written out, and against known clips."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from toy_encoder import ToyEncoder

from forecasting import config
from forecasting.latents import probe

GRID = (2, 2, 2)


@pytest.fixture
def clip():
  """Four frames of 8 x 8 pixels: a box and a point that move right."""
  frames = np.zeros((4, 8, 8, 3), np.uint8)
  frames[:, 4:] = 255
  depth = np.full((4, 8, 8, 1), 2.0, np.float32)
  depth[:, :, 4:] = np.e
  depth[:, :4, :4] = 0  # unknown
  x = np.array([0.1, 0.3, 0.6, 0.9], np.float32)
  tracks = np.stack([x, np.full(4, 0.8, np.float32)], -1)[:, None]
  boxes = np.tile(np.float32([0.0, 0.0, 0.5, 0.25]), (4, 1, 1))
  boxes[2:, :, [1, 3]] += 0.5
  return {
    "video": frames,
    "depth": depth,
    "tracks": np.concatenate([tracks, tracks], 1),
    "visible": np.ones((4, 2), bool),
    "track_mask": np.array([True, False]),
    "boxes": boxes,
    "box_mask": np.array([[True], [True], [True], [False]]),
  }


def test_targets_by_hand(clip):
  found = probe.targets(clip, GRID)
  pixels, known = found["pixels"]
  assert pixels.shape == (8, 2 * probe.CELLS**2 * 3) and known.all()
  np.testing.assert_allclose(pixels.mean(1), [0, 0, 1, 1] * 2, atol=1e-6)
  depth, known = found["depth"]
  np.testing.assert_array_equal(known, [False, True, True, True] * 2)
  np.testing.assert_allclose(depth[known, 0], [1, np.log(2), 1] * 2, rtol=0.03)
  boxes, known = found["boxes"]
  # Half of one token; then half of its neighbor, in one of two frames.
  np.testing.assert_allclose(boxes[:, 0], [0.5, 0, 0, 0, 0, 0.25, 0, 0])
  motion, known = found["motion"]
  np.testing.assert_array_equal(np.flatnonzero(known), [2, 7])
  np.testing.assert_allclose(motion[2], [0.25, 0], atol=1e-6)
  np.testing.assert_allclose(motion[7], [0.3, 0], atol=1e-6)


def test_probe_is_a_regression_with_means_of_places():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((30, 4, 3)) + rng.standard_normal((4, 3))
  y = x @ rng.standard_normal((3, 2)) + rng.standard_normal((30, 4, 2))
  y += 5 * rng.standard_normal((4, 2))
  known = rng.random((30, 4)) < 0.7
  known[:, 3] = False  # a place that was never seen
  known[20:, 3] = True
  found = probe.Probe()
  for part in (slice(0, 12), slice(12, 20)):
    found.add(x[part], y[part], known[part])
  for part in (slice(20, 24), slice(24, 30)):
    found.score(x[part], y[part], known[part])

  def design(rows):
    clips, place = np.nonzero(known[rows] & (np.arange(4) < 3))
    columns = np.concatenate([x[rows][clips, place], np.eye(4)[place]], 1)
    return columns, y[rows][clips, place], place

  columns, targets, place = design(slice(0, 20))
  weights = np.linalg.lstsq(columns, targets, rcond=None)[0]
  means = np.stack([targets[place == p].mean(0) for p in range(3)])
  columns, targets, place = design(slice(20, 30))
  error = np.square(targets - columns @ weights).sum()
  expected = 1 - error / np.square(targets - means[place]).sum()
  assert 0.2 < expected < 0.95
  np.testing.assert_allclose(found.r2, expected, rtol=1e-4)


class Colors(ToyEncoder):
  """Tokens are the mean color of their place."""

  def encode(self, params, video):
    slots = video.reshape(video.shape[0], -1, 2, 2, 4, 2, 4, 3)
    return slots.mean((2, 4, 6)) * params["w"]

  encode_context = encode_leaky = encode


COLORS = Colors(resolution=8)


def test_what_a_token_holds_is_read_and_nothing_else():
  rng = np.random.default_rng(0)
  clips = []
  for _ in range(60):
    colors = rng.integers(0, 256, (4, 2, 1, 2, 1, 3), np.uint8)
    video = np.broadcast_to(colors, (4, 2, 4, 2, 4, 3)).reshape(4, 8, 8, 3)
    depth = np.exp(video.mean(-1, keepdims=True) / 255)
    noise = np.exp(rng.random((4, 8, 8, 1)))
    clips.append({"video": video, "depth": depth, "noise": noise})
  found = probe.measure(COLORS, clips[:40], clips[40:], 2)
  assert set(found) == {"pixels", "depth"} and found["depth"] > 0.9
  bare = [{"video": clip["video"]} for clip in clips]
  lacking = probe.measure(COLORS, clips[:40], bare[40:], 2)
  assert lacking["pixels"] == found["pixels"] and np.isnan(lacking["depth"])
  assert set(probe.measure(COLORS, bare[:40], clips[40:], 2)) == {"pixels"}
  for clip in clips:
    clip["depth"] = clip["noise"]
  assert probe.measure(COLORS, clips[:40], clips[40:], 2)["depth"] < 0.1


def test_report_sets_weights_beside_random_ones(monkeypatch, tmp_path):
  seen = []

  def load(**choices):
    seen.append((choices["random_init"], choices["checkpoint"]))
    return seen[-1]

  def measured(encoder, fit, test, num_context):
    assert (fit, test, num_context) == ("train", "eval", 4)
    return {"pixels": 0.25 if encoder[0] else 0.5}

  monkeypatch.setattr(probe, "load_backbone", load)
  monkeypatch.setattr(probe, "measure", measured)
  monkeypatch.setattr(probe, "open_source", lambda data, split, root: split)
  monkeypatch.setattr(probe, "CLIPS", 3)
  cfg = ConfigDict(config.base_config())
  cfg.backbone.update(name="4ds_tiny", checkpoint="mine", random_init=False)
  lines = probe.report(cfg, tmp_path).splitlines()
  assert seen == [(False, "mine"), (True, None)]
  assert lines[-2].split() == ["its", "weights", "random", "weights"]
  assert lines[-1].split() == ["pixels", "0.500", "0.250"]
