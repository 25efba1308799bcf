"""Clips: what is accepted, and that bytes give back the same clip."""

import numpy as np
import pytest

from forecasting.frames import clip as clips

T, SIZE, Q, N = 6, 8, 3, 2


def make_clip():
  rng = np.random.default_rng(0)
  return {
    "video": rng.integers(0, 256, (T, SIZE, SIZE, 3), np.uint8),
    "seconds": np.arange(T, dtype=np.float32),
    "clip_id": np.array("room/ä/3"),
    "start_frame": np.array(7, np.int32),
    "stride": np.array(2, np.int32),
    "depth": rng.uniform(1, 3, (T, SIZE, SIZE, 1)).astype(np.float16),
    "tracks": rng.uniform(0, 1, (T, Q, 2)).astype(np.float32),
    "visible": np.ones((T, Q), bool),
    "track_mask": np.array([True, True, False]),
    "boxes": rng.uniform(0, 1, (T, N, 4)).astype(np.float32),
    "box_mask": np.ones((T, N), bool),
    "object_mask": np.array([True, False]),
    "object_ids": np.array([4, -1], np.int32),
  }


def test_bytes_give_back_the_same_clip():
  clip = make_clip()
  back = clips.decode_clip(clips.encode_clip(clip))
  assert back.keys() == clip.keys()
  for key, array in clip.items():
    assert back[key].dtype == array.dtype, key
    assert back[key].shape == array.shape, key
    np.testing.assert_array_equal(back[key], array)


def test_bytes_do_not_depend_on_memory_layout_or_key_order():
  clip = make_clip()
  other = {
    key: np.asfortranarray(clip[key]) if clip[key].ndim else clip[key]
    for key in reversed(list(clip))
  }
  assert other["video"].strides != clip["video"].strides
  assert clips.encode_clip(other) == clips.encode_clip(clip)


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_truncated_record_is_refused(cut):
  with pytest.raises(ValueError, match="not a clip record"):
    clips.decode_clip(clips.encode_clip(make_clip())[:cut])


def test_labels_are_optional_but_whole():
  clip = make_clip()
  for key in ("depth", "boxes", "box_mask", "object_mask", "object_ids"):
    del clip[key]
  assert clips.clip_labels(clips.validate_clip(clip)) == ("points",)
  del clip["visible"]
  with pytest.raises(ValueError, match=r"missing keys \['visible'\]"):
    clips.validate_clip(clip)


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("video", np.zeros((T, SIZE, SIZE, 3), np.float32), "expected uint8"),
    ("tracks", np.zeros((T, Q + 1, 2), np.float32), "visible"),
    ("depth", np.zeros((T - 1, SIZE, SIZE, 1), np.float16), "depth"),
    ("depth", np.full((T, SIZE, SIZE, 1), -1, np.float16), "negative"),
    ("boxes", np.full((T, N, 4), np.nan, np.float32), "not finite"),
    ("seconds", np.zeros(T, np.float32), "increase"),
    ("clip_id", np.array(3), "expected str"),
    ("visible", np.zeros((T, Q), bool), "track_mask"),
    ("box_mask", np.zeros((T, N), bool), "object_mask"),
    ("color", np.zeros(3), "unknown keys"),
  ],
)
def test_what_is_wrong_is_named(key, value, message):
  clip = clips.validate_clip(make_clip())
  clip[key] = value
  with pytest.raises(ValueError, match=message):
    clips.validate_clip(clip)


def test_split_context():
  clip = make_clip()
  context, future = clips.split_context(clip, 2)
  for key in ("video", "seconds", "depth", "tracks", "visible", "box_mask"):
    np.testing.assert_array_equal(context[key], clip[key][:2])
    np.testing.assert_array_equal(
      np.concatenate([context[key], future[key]]), clip[key]
    )
  np.testing.assert_array_equal(future["track_mask"], clip["track_mask"])
  for size in (0, T):
    with pytest.raises(ValueError, match="num_context"):
      clips.split_context(clip, size)
