"""Video folders: what is read, what is skipped, and how it is split."""

import struct
from fractions import Fraction
from types import SimpleNamespace

import av
import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from forecasting.frames import decode, video_cache, videos
from forecasting.frames.clip import validate_clip

CODECS = {
  "h264.mp4": ("libx264", "yuv420p"),
  "mpeg4.avi": ("mpeg4", "yuv420p"),
  "vp8.webm": ("libvpx", "yuv420p"),
  "ffv1.mkv": ("ffv1", "yuv420p"),
}


def _has(codec):
  try:
    av.codec.Codec(codec, "w")
  except Exception:
    return False
  return True


def _gray(index):
  """Brightness of a source frame: tells which frame one looks at."""
  return 20 + 5 * index


def write_video(
  path,
  pictures,
  rate=25,
  codec="mpeg4",
  pix_fmt="yuv420p",
  pts=None,
  sar=None,
  options=None,
):
  """Encodes RGB pictures; `pts` in milliseconds for variable rates."""
  with av.open(str(path), "w", options=options or {}) as container:
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = pictures[0].shape[:2]
    stream.pix_fmt = pix_fmt
    stream.bit_rate = 2_000_000
    if sar is not None:
      stream.codec_context.sample_aspect_ratio = sar
    if pts is not None:
      stream.codec_context.time_base = Fraction(1, 1000)
    for i, picture in enumerate(pictures):
      frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
      frame.pts = i if pts is None else pts[i]
      frame.time_base = Fraction(1, rate) if pts is None else Fraction(1, 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def flat(count, height=48, width=64):
  """Frames of one gray each."""
  return [
    np.full((height, width, 3), _gray(i % 40), np.uint8) for i in range(count)
  ]


def write_audio(path):
  with av.open(str(path), "w") as container:
    stream = container.add_stream("aac", rate=16000, layout="mono")
    for i in range(20):
      frame = av.AudioFrame.from_ndarray(
        np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
      )
      frame.sample_rate, frame.pts = 16000, i * 1024
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def config(path, **changes):
  return ConfigDict(
    {
      "path": str(path),
      "fps": 25.0,
      "size": 16,
      "num_frames": 4,
      "window_stride": 2,
      "eval_fraction": 0.25,
      "train_clips": 1000,
      "eval_clips": 1000,
      "workers": 2,
    }
    | changes
  )


def shown(clip):
  """Which source frames a clip of `flat` shows."""
  middle = clip["video"][:, 4:12, 4:12].astype(float).mean((1, 2, 3))
  return np.rint((middle - 20) / 5).astype(int).tolist()


@pytest.fixture(scope="module")
def flat_video(tmp_path_factory):
  folder = tmp_path_factory.mktemp("flat")
  write_video(folder / "a.mp4", flat(32))
  return folder


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


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
  """A folder as users have them."""
  folder = tmp_path_factory.mktemp("mixed")
  (folder / "deep").mkdir()
  good = write_video(folder / "deep" / "Good.MP4", flat(40))
  write_video(folder / "short.mp4", flat(3))
  write_audio(folder / "sound.mp4")
  (folder / "empty.mp4").touch()
  (folder / "text.mp4").write_text("these are not pictures\n" * 50)
  (folder / "list.mp4").write_text(
    "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n"
  )
  data = good.read_bytes()
  (folder / "header_lost.mp4").write_bytes(data[: len(data) // 2])
  fast = folder / "cut.mkv"
  write_video(fast, flat(40), codec="ffv1")
  damaged = bytearray(fast.read_bytes())
  for i in range(len(damaged) // 2, len(damaged) // 2 + 400):
    damaged[i] = 0x5A
  fast.write_bytes(damaged)
  (folder / "notes.txt").write_text("not looked at")
  return folder


def test_unusable_files_are_skipped_counted_and_named(mixed, tmp_path, caplog):
  videos._log_once.cache_clear()
  train = videos.open_videos(config(mixed), "train", tmp_path)
  held_out = videos.open_videos(config(mixed), "eval", tmp_path)
  assert train.skipped == held_out.skipped
  assert train.skipped["too short"] == 1
  assert train.skipped["no video stream"] == 1
  assert train.skipped["unreadable"] == 4
  assert train.skipped["corrupt"] == 1
  for clips in (train, held_out):
    ids = {str(clips[i]["clip_id"]).split(":")[0] for i in range(len(clips))}
    assert ids == {"deep/Good.MP4"}
  lines = [r.getMessage() for r in caplog.records if "skipped" in r.message]
  assert len(lines) == 1
  for name in ("short", "sound", "empty", "text", "header_lost", "cut"):
    assert f"{name}.m" in lines[0]


def test_truncated_file_with_its_header_in_front_is_corrupt(tmp_path):
  path = tmp_path / "a.mp4"
  noise = np.random.default_rng(0)
  pictures = noise.integers(0, 256, (30, 48, 64, 3), np.uint8)
  write_video(path, list(pictures), options={"movflags": "faststart"})
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
  noise = np.random.default_rng(0)
  pictures = noise.integers(0, 256, (30, 48, 64, 3), np.uint8)
  path = write_video(tmp_path / "a.avi", list(pictures))
  data = bytearray(path.read_bytes())
  middle = len(data) // 2
  data[middle : middle + 400] = b"\x5a" * 400
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r"a\.avi \(corrupt: .* is damaged"):
    videos.open_videos(config(tmp_path), "train", tmp_path / "cache")


def test_clips_travel_to_worker_processes(flat_video, tmp_path):
  clips = videos.open_videos(config(flat_video), "train", tmp_path)
  clips[0]
  # Grain ships sources to its workers this way.
  copy = cloudpickle.loads(cloudpickle.dumps(clips))
  np.testing.assert_array_equal(copy[1]["video"], clips[1]["video"])


def test_cache_that_cannot_be_written_names_the_field(flat_video, tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(OSError, match=r"config\.data\.root"):
    videos.open_videos(config(flat_video), "train", tmp_path / "file")


def test_full_disk_leaves_no_partial_file(flat_video, tmp_path, monkeypatch):
  class FullDisk:
    """Fails when the buffered bytes reach the disk, as the real writer."""

    def __init__(self, path, options):
      self.path = path

    def write(self, record):
      with open(self.path, "ab") as stream:
        stream.write(record[:10])

    def close(self):
      raise RuntimeError("write() failed: No space left on device")

  monkeypatch.setattr(
    video_cache.array_record_module, "ArrayRecordWriter", FullDisk
  )
  with pytest.raises(OSError, match=r"No space left.*config\.data\.root"):
    videos.open_videos(config(flat_video), "train", tmp_path)
  assert _contents(tmp_path).keys() == {".lock"}


@pytest.mark.parametrize(
  ("prepare", "error", "message"),
  [
    (lambda p: None, ValueError, r"--config\.data\.path"),
    (lambda p: p / "gone", FileNotFoundError, "does not exist"),
    (lambda p: p, FileNotFoundError, "holds no video file"),
  ],
)
def test_wrong_folder(prepare, error, message, tmp_path):
  data = config(tmp_path)
  data.path = None if prepare(tmp_path) is None else str(prepare(tmp_path))
  with pytest.raises(error, match=message):
    videos.open_videos(data, "train", tmp_path / "cache")


def test_no_usable_video_lists_the_reasons(tmp_path):
  (tmp_path / "a.mp4").touch()
  write_video(tmp_path / "b.mp4", flat(2))
  with pytest.raises(ValueError) as caught:
    videos.open_videos(config(tmp_path), "eval", tmp_path / "cache")
  message = str(caught.value)
  assert "0 of 2 files" in message
  assert "a.mp4 (unreadable" in message and "b.mp4 (too short" in message


def test_unknown_split(flat_video, tmp_path):
  with pytest.raises(ValueError, match="'futures'"):
    videos.open_videos(config(flat_video), "futures", tmp_path)


@settings(max_examples=100, deadline=None)
@given(
  totals=st.lists(st.integers(4, 90), min_size=1, max_size=14),
  stride=st.integers(1, 6),
  fraction=st.floats(0.05, 0.6),
)
def test_splits_share_no_frame(totals, stride, fraction):
  counts = {f"{i}.mp4": total for i, total in enumerate(totals)}
  seen = {}
  for split in ("train", "eval"):
    windows = videos.split_windows(
      counts, split, num_frames=4, stride=stride, eval_fraction=fraction
    )
    assert windows == sorted(windows, key=lambda w: (w[0], w[1]))
    seen[split] = {(n, s + k) for n, s in windows for k in range(4)}
    assert all(0 <= frame < counts[name] for name, frame in seen[split])
  assert not seen["train"] & seen["eval"]
  names = {split: {name for name, _ in seen[split]} for split in seen}
  if len(totals) >= videos.MIN_FILES_TO_SPLIT:
    assert names["train"] and names["eval"]
    assert not names["train"] & names["eval"]
  for name, total in counts.items():
    if len(totals) < videos.MIN_FILES_TO_SPLIT and total >= 8:
      assert name in names["train"] and name in names["eval"]


def test_windows_of_one_file_by_hand():
  def starts(split):
    windows = videos.split_windows(
      {"a": 20}, split, num_frames=4, stride=2, eval_fraction=0.3
    )
    return [start for _, start in windows]

  assert starts("train") == [0, 2, 4, 6, 8, 10]
  assert starts("eval") == [14, 16]


def test_caps_spread_over_all_windows(flat_video, tmp_path):
  every = videos.open_videos(config(flat_video), "train", tmp_path)
  few = videos.open_videos(config(flat_video, train_clips=3), "train", tmp_path)
  starts = [int(every[i]["start_frame"]) for i in range(len(every))]
  kept = [int(few[i]["start_frame"]) for i in range(len(few))]
  assert len(starts) == 11 and kept == [starts[0], starts[3], starts[7]]
  with pytest.raises(IndexError):
    few[3]


def test_fingerprint_follows_files_and_settings(tmp_path):
  write_video(tmp_path / "a.mp4", flat(24))

  def fingerprint(split="train", **changes):
    data = config(tmp_path, **changes)
    return videos.open_videos(data, split, tmp_path / "cache").fingerprint

  prints = [
    fingerprint(),
    fingerprint("eval"),
    fingerprint(fps=12.5),
    fingerprint(size=8),
    fingerprint(window_stride=1),
    fingerprint(train_clips=2),
    fingerprint(geometry="squeeze"),
  ]
  assert prints[0] == fingerprint() == fingerprint(workers=1, eval_clips=3)
  write_video(tmp_path / "b.mp4", flat(24))
  prints.append(fingerprint())
  assert len(set(prints)) == len(prints)


def _contents(root):
  return {p.name: p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_interrupted_cache_is_finished_with_the_same_bytes(
  tmp_path, monkeypatch
):
  for name in "abc":
    write_video(tmp_path / f"{name}.mp4", flat(16))
  videos.open_videos(config(tmp_path), "train", tmp_path / "whole")

  real, count = decode.read_frames, [0]

  def stops(*args):
    for item in real(*args):
      count[0] += 1
      if count[0] > 24:
        raise KeyboardInterrupt
      yield item

  monkeypatch.setattr(decode, "read_frames", stops)
  with pytest.raises(KeyboardInterrupt):
    videos.open_videos(
      config(tmp_path, workers=1), "train", tmp_path / "resumed"
    )
  partial = _contents(tmp_path / "resumed")
  assert 1 < len(partial) < 7
  assert not any(name.endswith(".tmp") for name in partial)
  monkeypatch.setattr(decode, "read_frames", real)
  videos.open_videos(config(tmp_path), "train", tmp_path / "resumed")
  assert _contents(tmp_path / "resumed") == _contents(tmp_path / "whole")


def test_cached_files_are_not_decoded_again(tmp_path, monkeypatch):
  write_video(tmp_path / "a.mp4", flat(16))
  videos.open_videos(config(tmp_path), "train", tmp_path / "cache")

  def fails(*_):
    raise AssertionError("decoded again")
    yield

  monkeypatch.setattr(decode, "read_frames", fails)
  videos.open_videos(
    config(tmp_path, window_stride=1), "eval", tmp_path / "cache"
  )


def test_truncated_cache_is_made_again(tmp_path):
  write_video(tmp_path / "a.mp4", flat(16))
  first = videos.open_videos(config(tmp_path), "train", tmp_path / "cache")[0]
  (records,) = (tmp_path / "cache").rglob("*.array_record")
  records.write_bytes(records.read_bytes()[:-70000])
  video_cache._reader.cache_clear()
  again = videos.open_videos(config(tmp_path), "train", tmp_path / "cache")[0]
  np.testing.assert_array_equal(first["video"], again["video"])


def test_damage_after_opening_names_the_file(tmp_path):
  write_video(tmp_path / "a.mp4", flat(16))
  clips = videos.open_videos(config(tmp_path), "train", tmp_path / "cache")
  (records,) = (tmp_path / "cache").rglob("*.array_record")
  records.write_bytes(b"")
  video_cache._reader.cache_clear()
  with pytest.raises(ValueError, match=r"frames of a\.mp4.*Delete"):
    clips[0]
