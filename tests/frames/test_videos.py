"""Folders of videos: what is skipped, how they are split, what errors say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_videos import config, flat, write_audio, write_video

from forecasting.frames import videos


@pytest.fixture(scope="module")
def flat_video(tmp_path_factory):
  folder = tmp_path_factory.mktemp("flat")
  write_video(folder / "a.mp4", flat(32))
  return folder


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
