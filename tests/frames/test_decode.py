"""Video files to frames: containers, rates, rotation, pixels, damage."""

import struct
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_videos import config, flat, noise, shown, write_video

from forecasting.frames import decode, indexed_video, preprocess, videos
from forecasting.frames.clip import validate_clip

CODECS = {
  "h264.mp4": ("libx264", "yuv420p"),
  "mpeg4.avi": ("mpeg4", "yuv420p"),
  "vp8.webm": ("libvpx", "yuv420p"),
  "ffv1.mkv": ("ffv1", "yuv420p"),
}


@pytest.fixture(scope="module")
def flat_video(tmp_path_factory):
  folder = tmp_path_factory.mktemp("flat")
  write_video(folder / "a.mp4", flat(32))
  return folder


def _index(path, *_):
  return indexed_video.index_video(path).seconds


def _has(codec):
  try:
    av.codec.Codec(codec, "w")
  except Exception:
    return False
  return True


@pytest.mark.parametrize("name", CODECS)
def test_every_container_gives_its_frames(name, tmp_path):
  codec, pix_fmt = CODECS[name]
  if not _has(codec):
    pytest.skip(f"this build cannot encode {codec}")
  write_video(tmp_path / name, flat(24), codec=codec, pix_fmt=pix_fmt)
  clips = videos.open_videos(config(tmp_path), "train", tmp_path / "cache")
  clip = validate_clip(clips[1])
  assert shown(clip) == [2, 3, 4, 5]
  np.testing.assert_allclose(clip["seconds"], np.arange(4) / 25, atol=2e-3)
  assert (clip["start_frame"], clip["stride"]) == (2, 1)
  assert str(clip["clip_id"]) == f"{name}:2"
  assert clips.labels == () and clips.skipped == {}


def test_half_rate_takes_every_second_frame(flat_video, tmp_path):
  clips = videos.open_videos(config(flat_video, fps=12.5), "train", tmp_path)
  clip = clips[0]
  assert shown(clip) == [0, 2, 4, 6]
  assert clip["stride"] == 2
  np.testing.assert_allclose(clip["seconds"], np.arange(4) * 0.08, atol=1e-6)


def test_slow_source_keeps_its_own_frames_and_says_so(flat_video, tmp_path):
  clips = videos.open_videos(config(flat_video, fps=60.0), "train", tmp_path)
  assert shown(clips[0]) == [0, 1, 2, 3]
  np.testing.assert_allclose(clips[0]["seconds"], np.arange(4) / 25, atol=1e-6)


def test_variable_rate_is_resampled_by_time(tmp_path):
  # 100 frames a second at first, then 10: at 25 a second every fourth of the
  # fast ones is taken, and every one of the slow ones.
  pts = [*range(0, 160, 10), *range(160, 1000, 100)]
  write_video(
    tmp_path / "v.mkv", flat(len(pts)), codec="ffv1", rate=100, pts=pts
  )
  clips = videos.open_videos(
    config(tmp_path, num_frames=8), "train", tmp_path / "cache"
  )
  clip = clips[0]
  assert shown(clip) == [0, 4, 8, 12, 16, 17, 18, 19]
  np.testing.assert_allclose(
    clip["seconds"], [0, 0.04, 0.08, 0.12, 0.16, 0.26, 0.36, 0.46], atol=2e-3
  )


@settings(max_examples=60, deadline=None)
@given(
  gaps=st.lists(st.integers(1, 300), min_size=1, max_size=60),
  fps=st.sampled_from([5.0, 12.5, 25.0, 30.0]),
)
def test_thinning_agrees_with_brute_force(gaps, fps):
  times = [Fraction(sum(gaps[:i]), 1000) for i in range(len(gaps))]
  frames = [SimpleNamespace(time=time) for time in times]
  kept = [frame.time for frame in decode.thin(frames, fps)]
  rate = Fraction(fps)
  nearest = set()
  for k in range(int(times[-1] * rate) + 1):
    distances = [abs(time - k / rate) for time in times]
    nearest.add(times[distances.index(min(distances))])
  # Beyond the last frame the grid ends at that frame's own share of time.
  assert kept == sorted(set(kept))
  assert nearest <= set(kept) <= nearest | {times[-1]}


def _rotate_mp4(path, degrees):
  """Writes a display matrix as phones do (clockwise) into the track header."""
  data = bytearray(path.read_bytes())
  start = data.index(b"tkhd") + 4
  assert data[start] == 0  # version
  cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
  matrix = [cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 14]
  struct.pack_into(">9i", data, start + 40, *(v << 16 for v in matrix))
  path.write_bytes(data)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_honored(degrees, tmp_path):
  upright = np.zeros((96, 64, 3), np.uint8)
  upright[:48, :32] = (250, 30, 30)  # top left
  upright[:48, 32:] = (30, 250, 30)
  upright[48:, :32] = (30, 30, 250)
  # The sensor saw the scene turned back; players turn it clockwise.
  stored = np.rot90(upright, degrees // 90)
  path = write_video(tmp_path / "r.mp4", [stored] * 16)
  _rotate_mp4(path, degrees)
  clips = videos.open_videos(config(tmp_path), "train", tmp_path / "cache")
  picture = clips[0]["video"][0].astype(int)
  assert picture[4, 4].argmax() == 0
  assert picture[4, 11].argmax() == 1
  assert picture[11, 4].argmax() == 2


def test_oblong_pixels_are_cropped_to_what_a_viewer_sees(tmp_path):
  picture = np.full((64, 64, 3), 30, np.uint8)
  picture[:, 16:48] = 220  # the middle half, square on the screen
  write_video(
    tmp_path / "a.mkv", [picture] * 16, codec="mpeg4", sar=Fraction(2, 1)
  )
  clips = videos.open_videos(config(tmp_path), "train", tmp_path / "cache")
  assert clips[0]["video"].min() > 150


def test_squeeze_keeps_the_whole_frame(tmp_path):
  picture = np.full((64, 128, 3), 30, np.uint8)
  picture[:, 32:96] = 220
  write_video(tmp_path / "a.mp4", [picture] * 16)
  for geometry, left in (("crop", 220), ("squeeze", 30)):
    clips = videos.open_videos(
      config(tmp_path, geometry=geometry), "train", tmp_path / "cache"
    )
    assert abs(int(clips[0]["video"][0, 8, 1, 0]) - left) < 30
  with pytest.raises(ValueError, match=r"data\.geometry='stretch'"):
    videos.open_videos(
      config(tmp_path, geometry="stretch"), "train", tmp_path / "cache"
    )


def test_truncated_file_with_its_header_in_front_is_corrupt(tmp_path):
  path = tmp_path / "a.mp4"
  write_video(path, noise(30), options={"movflags": "faststart"})
  path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
  with pytest.raises(ValueError, match=r"a\.mp4 \(corrupt: "):
    videos.open_videos(config(tmp_path), "train", tmp_path / "cache")


def test_file_cut_between_two_pictures_is_corrupt(tmp_path):
  # Nothing fails to decode here: only the header knows of the lost frames.
  path = tmp_path / "a.mp4"
  write_video(path, flat(30), options={"movflags": "faststart"})
  with av.open(str(path)) as container:
    places = sorted(p.pos for p in container.demux(video=0) if p.size)
  path.write_bytes(path.read_bytes()[: places[15]])
  with pytest.raises(ValueError, match=r"a\.mp4 \(corrupt: cut off: 15 of 30"):
    videos.open_videos(config(tmp_path), "train", tmp_path / "cache")


def test_damaged_picture_makes_a_file_corrupt(tmp_path):
  # The decoder conceals this damage: it raises nothing and counts all frames.
  path = write_video(tmp_path / "a.avi", noise(30))
  data = bytearray(path.read_bytes())
  middle = len(data) // 2
  data[middle : middle + 400] = b"\x5a" * 400
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r"a\.avi \(corrupt: .* is damaged"):
    videos.open_videos(config(tmp_path), "train", tmp_path / "cache")


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuvj420p"])
def test_pixels_are_those_that_each_frame_converts_itself_to(pix_fmt, tmp_path):
  codec = "mjpeg" if pix_fmt == "yuvj420p" else "libx264"
  path = tmp_path / "a.mkv"
  write_video(path, noise(6, 62, 50), codec=codec, pix_fmt=pix_fmt)
  found = [frame for frame, _, _ in decode.read_frames(path, 25.0, 32, True)]
  with av.open(str(path)) as container:
    expected = [
      preprocess.resize_and_crop(
        frame.to_ndarray(format="rgb24")[None], 32, preprocess.FULL
      )[0]
      for frame in container.decode(video=0)
    ]
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("open_file", [decode.read_frames, _index])
def test_pictures_without_a_decoder_make_a_file_corrupt(open_file, tmp_path):
  path = tmp_path / "a.mp4"
  write_video(path, flat(4), codec="libx264")
  data = path.read_bytes()
  assert data.count(b"avc1") == 2  # of the file's brands, and of the stream
  path.write_bytes(data.replace(b"avc1", b"zzzz"))
  with pytest.raises(decode.BadVideoError, match="no decoder") as error:
    list(open_file(path, 25.0, 16, True))
  assert error.value.reason == decode.CORRUPT
