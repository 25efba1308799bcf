"""The cache of decoded videos: resumed, repaired, or refused by name."""

import cloudpickle
import numpy as np
import pytest
from made_videos import config, flat, write_video

from forecasting.frames import decode, video_cache, videos


@pytest.fixture(scope="module")
def flat_video(tmp_path_factory):
  folder = tmp_path_factory.mktemp("flat")
  write_video(folder / "a.mp4", flat(32))
  return folder


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
