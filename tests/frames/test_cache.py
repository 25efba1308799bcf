"""The cache: same bytes whatever happens, and errors that can be mended."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from forecasting.frames import cache

NUM_CLIPS = 10  # shards of 4, 4 and 2


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
  monkeypatch.setattr(cache, "CLIPS_PER_SHARD", 4)


def make_clip(index):
  rng = np.random.default_rng(index)
  return {
    "video": rng.integers(0, 256, (4, 8, 8, 3), np.uint8),
    "seconds": np.arange(4, dtype=np.float32),
    "clip_id": np.array(f"noise/{index}"),
    "start_frame": np.array(0, np.int32),
    "stride": np.array(1, np.int32),
  }


def fill(folder, make=make_clip, num_clips=NUM_CLIPS):
  cache.fill(folder, num_clips, make, workers=0, title="test")


def digests(folder):
  return {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.glob("*.arrayrecord"))
  }


def refuse(index):
  raise AssertionError(f"clip {index} is made again")


def test_clips_come_back_in_order(tmp_path):
  fill(tmp_path)
  reader = cache.ShardReader(tmp_path, NUM_CLIPS)
  assert len(reader) == NUM_CLIPS
  for index in (9, 0, 3, 4, 7):
    clip, expected = reader[index], make_clip(index)
    assert clip.keys() == expected.keys()
    for key in expected:
      np.testing.assert_array_equal(clip[key], expected[key])
  for index in (-1, NUM_CLIPS):
    with pytest.raises(IndexError):
      reader[index]


def test_complete_shards_are_kept_and_lost_ones_come_back(tmp_path):
  fill(tmp_path)
  before = digests(tmp_path)
  assert len(before) == 3
  fill(tmp_path, refuse)
  lost = tmp_path / "clips-00004-00008.arrayrecord"
  lost.unlink()
  lost.with_name(lost.name + ".tmp").write_bytes(b"half a shard")
  made = []
  fill(tmp_path, lambda index: made.append(index) or make_clip(index))
  assert made == [4, 5, 6, 7]
  assert digests(tmp_path) == before
  assert not list(tmp_path.glob("*.tmp"))


def test_a_larger_data_set_keeps_the_full_shards(tmp_path):
  fill(tmp_path)
  made = []
  fill(tmp_path, lambda i: made.append(i) or make_clip(i), num_clips=12)
  assert made == [8, 9, 10, 11]
  ids = [str(cache.ShardReader(tmp_path, 12)[i]["clip_id"]) for i in range(12)]
  assert ids == [f"noise/{i}" for i in range(12)]


def test_killed_run_resumes_to_the_same_bytes(tmp_path):
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  fill(whole)
  script = (
    "import sys, time; from pathlib import Path\n"
    f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    "import test_cache as t\n"
    "t.cache.CLIPS_PER_SHARD = 4\n"
    "slow = lambda i: time.sleep(0.3) or t.make_clip(i)\n"
    "t.fill(Path(sys.argv[1]), slow)\n"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", script, str(broken)],
    stderr=subprocess.DEVNULL,
    env=os.environ | {"PYTHONPATH": str(Path(cache.__file__).parents[2])},
  )
  deadline = time.monotonic() + 60
  while not digests(broken) and process.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.02)
  time.sleep(0.4)
  process.send_signal(signal.SIGKILL)
  process.wait()
  survived = digests(broken)
  assert 0 < len(survived) < 3
  assert list(broken.glob("*.tmp"))
  fill(broken)
  assert digests(broken) == digests(whole)
  assert not list(broken.glob("*.tmp"))


@pytest.mark.slow
def test_a_run_killed_with_its_workers_resumes_to_the_same_bytes(tmp_path):
  """Real scenes, made by two of grain's processes, which it leaves behind."""
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  script = (
    "import sys; from pathlib import Path\n"
    "from forecasting import config\n"
    "from forecasting.frames import cache, pipeline\n"
    "if __name__ == '__main__':\n"
    "  cache.CLIPS_PER_SHARD = 4\n"
    "  cache.CLIPS_WORTH_WORKERS = 1\n"
    "  data = config.data_config()\n"
    "  data.update(train_clips=40, size=16, workers=2)\n"
    "  pipeline.open_source(data, 'train', Path(sys.argv[1]))\n"
  )
  file = tmp_path / "make.py"
  file.write_text(script)
  environment = os.environ | {
    "PYTHONPATH": str(Path(cache.__file__).parents[2])
  }

  def start(root):
    command = [sys.executable, str(file), str(root)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)

  def shards(root):
    return {
      path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
      for path in root.rglob("*.arrayrecord")
    }

  assert start(whole).wait() == 0
  expected = shards(whole)
  assert len(expected) == 10
  process = start(broken)
  deadline = time.monotonic() + 600
  while not shards(broken):
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.005)
  process.kill()
  process.wait()
  survived = shards(broken)
  assert 0 < len(survived) < 10
  # Those that were left behind neither hold the lock nor write.
  assert start(broken).wait(600) == 0
  assert shards(broken) == expected
  assert not list(broken.rglob("*.tmp"))


def test_a_few_clips_are_made_without_workers(tmp_path):
  here = []

  def make(index):
    here.append(index)  # in another process, of no effect here
    return make_clip(index)

  cache.fill(tmp_path, NUM_CLIPS, make, workers=2, title="test")
  assert here == list(range(NUM_CLIPS))


@pytest.mark.parametrize("kind", [KeyError, RuntimeError, OSError])
def test_an_error_passes_and_leaves_nothing_half_written(tmp_path, kind):
  def fail(index):
    if index == 5:
      raise kind("no such texture")
    return make_clip(index)

  with pytest.raises(kind, match=r"^'?no such texture"):
    fill(tmp_path, fail)
  assert list(digests(tmp_path)) == ["clips-00000-00004.arrayrecord"]
  assert not list(tmp_path.glob("*.tmp"))


def test_full_disk_is_named_and_leaves_nothing(tmp_path):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
  try:
    with pytest.raises(OSError, match="free disk space") as error:
      fill(tmp_path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert "clips-00000-00004.arrayrecord" in str(error.value)
  assert [path.name for path in tmp_path.iterdir()] == [".lock"]
  fill(tmp_path)


def test_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError, match=r"file/train.*config\.data\.root"):
    fill(tmp_path / "file" / "train")


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.9])
def test_truncated_shard_is_named(tmp_path, kept):
  fill(tmp_path)
  before = digests(tmp_path)
  path = tmp_path / "clips-00004-00008.arrayrecord"
  data = path.read_bytes()
  size = kept if kept > 1 else int(kept * len(data))
  path.write_bytes(data[:size])
  with pytest.raises(cache.CorruptShardError, match="delete this") as error:
    cache.ShardReader(tmp_path, NUM_CLIPS)
  assert str(path) in str(error.value)
  path.unlink()  # as the message says
  fill(tmp_path)
  assert digests(tmp_path) == before


def test_shard_with_too_few_clips_is_named(tmp_path):
  fill(tmp_path)
  wrong = tmp_path / "clips-00004-00008.arrayrecord"
  wrong.write_bytes((tmp_path / "clips-00008-00010.arrayrecord").read_bytes())
  with pytest.raises(
    cache.CorruptShardError, match="holds 2 clips instead of 4"
  ):
    cache.ShardReader(tmp_path, NUM_CLIPS)


def test_flipped_bits_are_noticed_when_read(tmp_path):
  fill(tmp_path)
  path = tmp_path / "clips-00000-00004.arrayrecord"
  clean = digests(tmp_path)
  data = bytearray(path.read_bytes())
  data[300:310] = bytes(byte ^ 0xFF for byte in data[300:310])
  path.write_bytes(data)
  assert digests(tmp_path) != clean
  with pytest.raises(cache.CorruptShardError, match="delete this") as error:
    reader = cache.ShardReader(tmp_path, NUM_CLIPS)
    for index in range(4):
      reader[index]
  assert str(path) in str(error.value)
