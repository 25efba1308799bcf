"""Captions say what the generator made."""

import numpy as np
import pytest

from forecasting.frames import mirrored, mujoco_scenes
from forecasting.frames.clip_list import ClipList
from forecasting.frames.scenes import captions, physics

TINY = mujoco_scenes.SceneConfig(size=8, num_points=4)


@pytest.fixture(scope="module")
def scenes():
  return [mujoco_scenes.generate_scene(TINY, 3, 0, i) for i in range(4)]


def test_caption_is_of_the_rendered_scene(scenes):
  """The scene drawn again without rendering is the one that was rendered."""
  for scene in scenes:
    text = captions.caption_of(TINY, str(scene.clip["clip_id"]))
    bodies = scene.model.ngeom - physics.NUM_PLANES
    assert text.startswith(f"{captions.NUMBERS[bodies]} bodies: ")
    head, camera = text.split("; ")
    described = head.split(": ")[1].split(", ")
    for number, words in enumerate(described):
      geom = physics.NUM_PLANES + number
      path = scene.motion.positions[:, geom]
      eye, axes = (
        scene.motion.camera_positions[0],
        scene.motion.camera_rotations[0],
      )
      right, down, forward = axes.T @ (path[-1] - eye) - axes.T @ (
        path[0] - eye
      )
      sizes = {
        "right": right,
        "left": -right,
        "down": down,
        "up": -down,
        "away": forward,
        "closer": -forward,
      }
      largest = max(sizes, key=sizes.get)
      assert words.split()[-1] == (
        "rests" if sizes[largest] < 0.08 else largest
      )
    assert camera.startswith("the camera ")


def test_kinds_are_named(scenes):
  names = {2: "ball", 3: "capsule", 6: "box"}  # MuJoCo's numbers
  for scene in scenes:
    text = captions.caption_of(TINY, str(scene.clip["clip_id"]))
    expected = [names[int(t)] for t in scene.model.geom_type[6:]]
    found = [w for w in text.replace(",", "").split() if w in names.values()]
    assert found == expected


def test_colors_have_names():
  for rgb, name in (
    ((0.9, 0.1, 0.1), "red"),
    ((0.9, 0.1, 0.12), "red"),
    ((0.9, 0.5, 0.1), "orange"),
    ((0.8, 0.8, 0.1), "yellow"),
    ((0.1, 0.7, 0.2), "green"),
    ((0.1, 0.8, 0.8), "cyan"),
    ((0.1, 0.2, 0.9), "blue"),
    ((0.5, 0.1, 0.8), "purple"),
    ((0.9, 0.1, 0.6), "pink"),
  ):
    assert captions.color_name(np.array(rgb)) == name


def test_captions_differ_and_all_words_are_known(scenes):
  texts = {captions.caption_of(TINY, str(s.clip["clip_id"])) for s in scenes}
  assert len(texts) == len(scenes)
  for text in texts:
    numbers = captions.words(text)
    assert numbers.shape == (captions.MAX_WORDS,)
    count = np.count_nonzero(numbers)
    assert 0 < count < captions.MAX_WORDS and not numbers[count:].any()
    assert numbers.max() < captions.NUM_WORDS


def to_the_right(clip):
  """How far the background and each object go to the right of the frame.

  Objects are measured against the background, which moves with the camera.
  """
  tracks, mask = clip["tracks"], clip["track_mask"]
  background = np.median((tracks[-1] - tracks[0])[mask, 0])
  middles = (clip["boxes"][..., 1] + clip["boxes"][..., 3]) / 2
  found = {}
  for slot, geom in enumerate(clip["object_ids"]):
    if geom >= 0 and clip["box_mask"][[0, -1], slot].all():
      moved = middles[-1, slot] - middles[0, slot]
      found[geom - physics.NUM_PLANES] = moved - background
  return background, found


def test_sides_are_those_of_the_frames_mirrored_or_not():
  """Words against boxes and tracks, which mirroring moves by itself."""
  config = mujoco_scenes.SceneConfig(size=16, num_points=32)
  plain = [mujoco_scenes.generate(config, 3, 0, i) for i in range(10)]
  source = mirrored.mirror_some(
    ClipList(
      range(len(plain)),
      plain.__getitem__,
      name="mujoco_scenes",
      split="train",
      labels=(),
      fingerprint="f00d",
      skipped={},
    ),
    seed=0,
  )
  sign = {"left": -1, "right": 1}
  compared = {"": 0, mirrored.SUFFIX: 0}
  for clip in source:
    name = str(clip["clip_id"])
    head, camera = captions.caption_of(config, name).split("; ")
    background, objects = to_the_right(clip)
    pairs = []
    if "pans" in camera:
      # What the camera turns to comes from there.
      pairs.append((camera.split()[-1], -background))
    described = head.split(": ")[1].split(", ")
    pairs += [(described[k].split()[-1], moved) for k, moved in objects.items()]
    for word, moved in pairs:
      if word in sign and abs(moved) > 0.06:
        assert np.sign(moved) == sign[word], (name, word, moved)
        compared[mirrored.SUFFIX if name.endswith(mirrored.SUFFIX) else ""] += 1
  assert min(compared.values()) >= 4


def test_mirrored_numbers_are_those_of_mirrored_words():
  text = "two bodies: a red wavy ball moves left; the camera pans to the right"
  other = "two bodies: a red wavy ball moves right; the camera pans to the left"
  found = captions.mirror_words(captions.words(text)[None])
  np.testing.assert_array_equal(found, captions.words(other)[None])
  assert (found != captions.words(text)).sum() == 2
  np.testing.assert_array_equal(
    captions.mirror_words(found), captions.words(text)[None]
  )


def test_other_clips_have_no_caption():
  with pytest.raises(ValueError, match="captions need"):
    captions.caption_of(TINY, "videos/cat.mp4/0")
