"""Mirrored training clips: labels stay with what they mark, on every way."""

import grain
import jax.numpy as jnp
import made_scannet
import made_waymo
import numpy as np
import pytest
from made_videos import config as video_config
from made_videos import write_video
from PIL import Image

from forecasting import config, extract
from forecasting.frames import mirrored, pipeline
from forecasting.frames.clip import validate_clip

MARK = (250, 20, 20)


def scenes(folder):
  data = config.data_config()
  sizes = {"size": 32, "train_clips": 8, "eval_clips": 3, "num_points": 32}
  data.update({**sizes, "workers": 0, "future_contexts": 1})
  return data


def scannet(folder):
  """A red square left of the middle, nearer than all else."""
  picture = np.full((36, 48, 3), 90, np.uint8)
  depth = np.full((24, 32), 4000, np.uint16)
  picture[9:18, 12:21], depth[6:12, 8:14] = MARK, 1500
  blob = made_scannet.jpeg(picture, "PNG")
  raw = made_scannet.zlib.compress(depth.tobytes())
  frames = {k: made_scannet.frame(k, blob, raw) for k in range(23)}
  png = made_scannet.struct.pack("<i", 1)
  made_scannet.write_scan(folder, num_frames=23, frames=frames, color_codec=png)
  made_scannet.write_lists(folder, "scene0000_00")
  return made_scannet.config(folder, size=36)


def waymo(folder):
  """A red car left of the middle, in images of a quarter of the size."""
  picture = Image.new("RGB", (480, 320), (90, 90, 90))
  picture.paste(MARK, (150, 125, 210, 185))
  file = made_waymo.io.BytesIO()
  picture.save(file, "JPEG", quality=95)
  car = {k: (720.0, 620.0, 240.0, 240.0) for k in range(56)}
  images = dict.fromkeys(range(56), file.getvalue())
  segment = made_waymo.MadeSegment(
    made_waymo.times(56), {"car": car}, images=images
  )
  for split in ("training", "validation"):
    made_waymo.write_v2(folder, segment, split)
  return made_waymo.settings(folder, size=64, window_stride=1)


def videos(folder):
  folder.mkdir()
  picture = np.full((48, 48, 3), 90, np.uint8)
  picture[12:24, 6:18] = MARK
  write_video(folder / "a.mp4", [picture] * 40)
  data = video_config(folder)
  data.name = "videos"
  return data


MADE = {"scenes": scenes, "scannet": scannet, "waymo": waymo, "videos": videos}


def through_grain(source, count=None):
  """Clips as extraction gets them, latents left out."""

  def encode(video, ids):
    return jnp.zeros((len(video), 1)), jnp.zeros((len(ids), 1))

  shards = [range(len(source) if count is None else count)]
  return list(extract.encode_shards(source, shards, encode, 4, 2))


@pytest.fixture(scope="module")
def clips(request, tmp_path_factory):
  """Plain and mirrored training clips of a kind of data."""
  folder = tmp_path_factory.mktemp("mirrored")
  data = MADE[request.param](folder / "data")
  data.train_clips = 8
  plain = pipeline.open_source(data, "train", folder / "root")
  data.random_flip = True
  flipped = pipeline.open_source(data, "train", folder / "root")
  return folder, data, plain, flipped, through_grain(flipped)


def red(video):
  """Where the mark is: [T H W]."""
  video = video.astype(int)
  return (video[..., 0] > 170) & (video[..., 1] < 110)


ALL = pytest.mark.parametrize("clips", MADE, indirect=True)


@ALL
def test_half_is_mirrored_by_seed_and_name(clips):
  _, _, plain, flipped, found = clips
  assert len(found) == len(plain) == len(flipped) == 8
  chosen = []
  for k, clip in enumerate(found):
    before = plain[k]
    name = str(before["clip_id"])
    chosen.append(str(clip["clip_id"]) == name + mirrored.SUFFIX)
    assert chosen[-1] == mirrored.is_mirrored(0, name)
    turned = before["video"][:, :, ::-1] if chosen[-1] else before["video"]
    np.testing.assert_array_equal(clip["video"], turned)
    if not chosen[-1]:
      assert all(np.array_equal(clip[key], before[key]) for key in before)
    latents = {"context", "clip"}
    validate_clip({k: v for k, v in clip.items() if k not in latents})
  assert set(chosen) == {False, True}
  assert flipped.fingerprint != plain.fingerprint
  assert flipped.labels == plain.labels and flipped.name == plain.name
  other = mirrored.mirror_some(plain, 1)
  assert other.fingerprint != flipped.fingerprint
  assert [str(clip["clip_id"]) for clip in other] != [
    str(clip["clip_id"]) for clip in found
  ]


@ALL
def test_what_is_scored_is_never_mirrored(clips):
  folder, data, *_ = clips
  splits = ["eval", "futures"] if data.name == "mujoco_scenes" else ["eval"]
  asked = data.copy_and_resolve_references()
  asked.random_flip = False
  for split in splits:
    source = pipeline.open_source(data, split, folder / "root")
    plain = pipeline.open_source(asked, split, folder / "root")
    assert source.fingerprint == plain.fingerprint
    for found, expected in zip(source, plain):
      assert str(found["clip_id"]) == str(expected["clip_id"])
      np.testing.assert_array_equal(found["video"], expected["video"])


@pytest.mark.parametrize("clips", ["scannet", "videos"], indirect=True)
def test_the_mark_keeps_its_depth(clips):
  sides = set()
  for clip in clips[-1]:
    mark = red(clip["video"])
    middle = np.nonzero(mark)[2].mean() / mark.shape[2]
    is_left = not str(clip["clip_id"]).endswith(mirrored.SUFFIX)
    assert (middle < 0.45) == is_left and (middle > 0.55) != is_left
    sides.add(is_left)
    if "depth" in clip:
      near = clip["depth"][..., 0] < 2
      # All but a rim that resizing mixes.
      assert np.mean(near == mark) > 0.97 and near[mark].mean() > 0.95
  assert sides == {False, True}


@pytest.mark.parametrize("clips", ["waymo"], indirect=True)
def test_the_box_stays_around_the_mark(clips):
  sides = set()
  for clip in clips[-1]:
    assert clip["object_mask"].tolist() == [True] + [False] * 24
    for image, box in zip(red(clip["video"]), clip["boxes"][:, 0]):
      rows, columns = np.nonzero(image)
      edges = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
      np.testing.assert_allclose(np.array(edges) / 64, box, atol=1.5 / 64)
    sides.add(bool(clip["boxes"][0, 0, 1] < 0.5))
  assert sides == {False, True}


@pytest.mark.parametrize("clips", ["scenes"], indirect=True)
def test_a_scene_s_labels_see_the_same_pixels(clips):
  _, _, plain, _, found = clips
  compared = 0
  for before, clip in zip(plain, found):
    if not str(clip["clip_id"]).endswith(mirrored.SUFFIX):
      continue
    seen = before["visible"] & before["track_mask"]
    assert np.array_equal(clip["visible"], before["visible"])
    for frame, query in zip(*np.nonzero(seen)):
      pixels = []
      for each in (before, clip):
        x, y = each["tracks"][frame, query] * 32
        pixels.append(
          (
            *each["video"][frame, int(y), int(x)],
            each["depth"][frame, int(y), int(x), 0],
          )
        )
      # Rounding may put a point on a border on either side of it.
      x = before["tracks"][frame, query, 0] * 32
      if abs(x - round(x)) > 1e-3:
        assert pixels[0] == pixels[1]
        compared += 1
    present = before["box_mask"]
    widths = clip["boxes"][..., 3] - clip["boxes"][..., 1]
    assert (widths[present] > 0).all()
    centers = [
      (each["boxes"][..., 1] + each["boxes"][..., 3])[present] / 2
      for each in (before, clip)
    ]
    np.testing.assert_allclose(centers[0], 1 - centers[1], atol=1e-6)
  assert compared > 100


def test_about_half_of_many_names_is_chosen():
  chosen = [mirrored.is_mirrored(0, f"clip {k}") for k in range(4000)]
  assert abs(np.mean(chosen) - 0.5) < 0.03


def test_grain_reads_mirrored_clips_in_any_order(tmp_path):
  data = videos(tmp_path / "v")
  data.random_flip = True
  source = pipeline.open_source(data, "train", tmp_path / "root")
  shuffled = grain.MapDataset.source(source).shuffle(seed=0)
  names = sorted(str(clip["clip_id"]) for clip in shuffled)
  assert names == sorted(str(clip["clip_id"]) for clip in source)
