"""Texts and pictures: the losses against loops, and that they fall."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.frames.scenes import captions
from forecasting.pretraining import contrastive
from forecasting.pretraining.image_text import ImageText
from forecasting.pretraining.video_text import VideoText

TEXTS = (
  "two bodies: a red striped ball moves left; the camera holds",
  "one bodies: a green wavy box rests; the camera pans to the right",
  "one bodies: a blue checkered capsule moves up; the camera holds",
)


def pairs():
  rng = np.random.default_rng(0)
  return rng.normal(size=(2, 4, 6)).astype(np.float32)


def cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_sigmoid_loss():
  pictures, texts = pairs()
  expected = 0.0
  for i, picture in enumerate(pictures):
    for j, text in enumerate(texts):
      sign = 1 if i == j else -1
      logit = 3.0 * cosine(picture, text) - 1.5
      expected += np.log1p(np.exp(-sign * logit)) / 4
  scales = {"log_scale": jnp.log(3.0), "bias": jnp.asarray(-1.5)}
  found = contrastive.sigmoid_loss(pictures, texts, scales)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_softmax_loss():
  pictures, texts = pairs()
  table = np.array([[cosine(p, t) for t in texts] for p in pictures]) * 3.0
  rows = table - np.log(np.exp(table).sum(1, keepdims=True))
  columns = table - np.log(np.exp(table).sum(0, keepdims=True))
  expected = -(np.trace(rows) + np.trace(columns)) / 8
  scales = {"log_scale": jnp.log(3.0)}
  found = contrastive.softmax_loss(pictures, texts, scales)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_hits():
  pictures, _ = pairs()
  assert contrastive.hits(pictures, 2.0 * pictures) == 1.0
  assert contrastive.hits(pictures, pictures[::-1]) == 0.0


def test_words_of_a_mirrored_view_are_of_what_it_shows(small_spec):
  """Frames get lighter to the right; a view that gets darker is mirrored."""
  cfg = {"text_width": 16, "scale": (0.5, 1.0)}
  task = ImageText(small_spec("siglip_tiny"), cfg)
  ramp = np.linspace(60, 180, 16).astype(np.uint8)
  video = np.broadcast_to(ramp[:, None], (12, 4, 16, 16, 3))
  text = captions.words("one bodies: a red striped ball moves left")
  batch = {"video": video, "text": np.tile(text, (12, 1))}
  frames, words = jax.jit(task.pictures)(batch, jax.random.key(0))
  sides = set()
  for frame, numbers in zip(frames[:, 0], words, strict=True):
    side = "left" if frame[:, -1].mean() > frame[:, 0].mean() else "right"
    expected = captions.words(f"one bodies: a red striped ball moves {side}")
    np.testing.assert_array_equal(numbers, expected)
    sides.add(side)
  assert sides == {"left", "right"}


@pytest.mark.slow
@pytest.mark.parametrize(
  ("objective", "backbone", "cfg"),
  [
    (ImageText, "siglip_tiny", {"text_width": 16, "scale": (0.9, 1.0)}),
    (VideoText, "videoprism_tiny", {"text_width": 16}),
  ],
)
def test_texts_are_told_apart(
  objective, backbone, cfg, small_spec, make_video, train
):
  changes = {}
  if backbone == "videoprism_tiny":
    changes = {"depth": 2, "sizes": {"temporal_depth": 1, "table": (8, 4, 4)}}
  task = objective(small_spec(backbone, **changes), cfg)
  # Noise alone is the same to a network that averages tokens.
  red_green_blue = np.diag([128, 128, 128]).astype(np.uint8)
  batch = {
    "video": make_video(3) // 2 + red_green_blue[:, None, None, None],
    "text": np.stack([captions.words(text) for text in TEXTS]),
  }
  history, _ = train(task, batch, 40)
  assert history[-1]["loss"] < 0.3 * history[0]["loss"]
  assert history[-1]["hits"] == 1.0
