"""A store is whole or absent, whatever interrupts its writer."""

import itertools
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from noise_store import NUM_CLIPS, make_example, make_examples, make_manifest

from forecasting.latents import store
from forecasting.latents.manifest import ManifestError
from forecasting.latents.store import LatentStore, StoreError


class Killed(BaseException):
  """Stands for a signal: nothing that handles errors may swallow it."""


def content(path):
  """Returns the bytes of every file of a store."""
  return {file.name: file.read_bytes() for file in path.iterdir()}


def recording(calls):
  """Returns `make_examples` that notes which shards it was asked for."""

  def examples(shards):
    calls.append(list(shards))
    return make_examples(shards)

  return examples


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_examples_come_back(write, dtype):
  latents = write(dtype=dtype)
  assert len(latents) == NUM_CLIPS
  for i in range(NUM_CLIPS):
    expected = make_example(i)
    assert latents[i]["clip_id"] == expected["clip_id"]
    np.testing.assert_array_equal(latents[i]["video"], expected["video"])
    tolerance = {"float32": 0, "bfloat16": 2**-8, "int8": 2**-6}[dtype]
    np.testing.assert_allclose(
      latents[i]["clip"], expected["clip"], atol=tolerance * 12
    )
  assert latents[-1]["clip_id"] == latents[NUM_CLIPS - 1]["clip_id"]
  with pytest.raises(IndexError):
    latents[NUM_CLIPS]


@pytest.mark.parametrize("killed_at", [0, 3, 4, 9, 10])
def test_killed_and_resumed_gives_the_same_bytes(tmp_path, write, killed_at):
  path = tmp_path / "killed"

  def killed(shards):
    yield from itertools.islice(make_examples(shards), killed_at)
    raise Killed

  with pytest.raises(Killed):
    store.write_store(path, make_manifest(), killed)
  with pytest.raises(ManifestError, match="extraction did not finish"):
    LatentStore(path)
  calls = []
  store.write_store(path, make_manifest(), recording(calls))
  first = killed_at // 4 * 4
  assert calls[0][0].start == first  # whole shards are not encoded again
  assert content(path) == content(write("whole").path)


def test_leftovers_of_a_hard_kill_are_replaced(tmp_path, write):
  whole = content(write("whole").path)
  path = tmp_path / "killed"
  path.mkdir()
  # A half-written shard, and one whose sidecar was not written any more.
  (path / "shard-00000.array_record.tmp").write_bytes(b"half")
  name = "shard-00001.array_record"
  (path / name).write_bytes(whole[name])
  store.write_store(path, make_manifest(), make_examples)
  assert content(path) == whole


def test_a_finished_store_is_not_encoded_again(tmp_path, write):
  before = content(write().path)
  calls = []
  store.write_store(tmp_path / "store", make_manifest(), recording(calls))
  assert calls == [] and content(tmp_path / "store") == before


def test_latents_of_other_weights_are_written_again(tmp_path, write):
  write()
  calls = []
  manifest = make_manifest(weights_digest="other")
  store.write_store(tmp_path / "store", manifest, recording(calls))
  assert len(calls[0]) == 3


def test_a_store_grows_and_keeps_its_full_shards(tmp_path, write):
  write("store", num_clips=6)
  calls = []
  store.write_store(tmp_path / "store", make_manifest(), recording(calls))
  assert calls == [[range(4, 8), range(8, 11)]]
  assert content(tmp_path / "store") == content(write("whole").path)


def test_shards_of_a_longer_store_are_removed(tmp_path, write):
  write("store")
  store.write_store(
    tmp_path / "store", make_manifest(num_clips=6), make_examples
  )
  assert content(tmp_path / "store") == content(
    write("short", num_clips=6).path
  )


def test_reading_fewer_clips_than_there_are(write):
  path = write().path
  assert len(LatentStore(path, num_clips=5)) == 5
  with pytest.raises(IndexError):
    LatentStore(path, num_clips=5)[5]
  with pytest.raises(StoreError, match="has 11 clips, expected 12"):
    LatentStore(path, num_clips=12)


def test_hosts_share_the_work(tmp_path, write):
  path = tmp_path / "shared"
  barrier = threading.Barrier(2, timeout=20)
  calls = [[], []]

  def run(host):
    store.write_store(
      path,
      make_manifest(),
      recording(calls[host]),
      host=(host, 2),
      barrier=barrier.wait,
    )

  threads = [threading.Thread(target=run, args=(host,)) for host in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert calls == [[[range(4), range(8, 11)]], [[range(4, 8)]]]
  assert content(path) == content(write("whole").path)


def test_a_host_that_cannot_see_the_others_shards_says_so(tmp_path):
  with pytest.raises(StoreError, match=r"shard-00001.*shared by all hosts"):
    store.write_store(
      tmp_path, make_manifest(), make_examples, host=(0, 2), barrier=int
    )


def test_expectations_are_checked_on_opening(write):
  path = write().path
  LatentStore(path, {"backbone": "toy", "context_mode": "crop_pos"})
  with pytest.raises(ManifestError, match="context_mode: the store has"):
    LatentStore(path, {"context_mode": "pad_last"})


def test_a_truncated_shard_names_file_sizes_and_remedy(write, tmp_path):
  path = write().path
  file = path / "shard-00001.array_record"
  size = file.stat().st_size
  os.truncate(file, size - 100)
  with pytest.raises(StoreError) as error:
    LatentStore(path)
  message = str(error.value)
  assert f"{file} has {size - 100} bytes, expected {size}" in message
  assert f"rm -f {file}" in message and "forecasting.extract" in message
  file.unlink()
  with pytest.raises(StoreError, match=r"shard-00001.*is missing"):
    LatentStore(path)
  calls = []
  store.write_store(path, make_manifest(), recording(calls))
  assert calls == [[range(4, 8)]]
  assert content(path) == content(write("whole").path)


def test_a_flipped_byte_is_found_by_verify_and_mended(write):
  path = write().path
  file = path / "shard-00001.array_record"
  damaged = bytearray(file.read_bytes())
  damaged[len(damaged) // 2] ^= 1
  file.write_bytes(damaged)
  LatentStore(path)  # sizes agree
  with pytest.raises(StoreError, match=r"shard-00001.*has checksum .*expected"):
    LatentStore(path, verify=True)
  store.write_store(path, make_manifest(), make_examples)
  LatentStore(path, verify=True)


def test_a_record_that_cannot_be_read_names_its_file(write):
  latents = write()
  file = latents.path / "shard-00000.array_record"
  file.write_bytes(b"\0" * file.stat().st_size)
  with pytest.raises(StoreError, match=r"shard-00000.*cannot be read"):
    latents[0]


def test_an_error_of_the_encoder_passes_and_leaves_nothing(tmp_path):
  def broken(shards):
    yield make_example(0)
    raise RuntimeError("out of device memory")

  with pytest.raises(RuntimeError, match="out of device memory") as error:
    store.write_store(tmp_path, make_manifest(), broken)
  assert not isinstance(error.value, StoreError)
  assert list(tmp_path.iterdir()) == []


def test_too_few_examples_are_an_error(tmp_path):
  with pytest.raises(ValueError, match="3 examples came, 4 wanted"):
    store.write_store(
      tmp_path, make_manifest(), lambda _: map(make_example, range(3))
    )
  assert list(tmp_path.iterdir()) == []


def test_no_clips_are_an_error_that_gives_the_reasons(tmp_path):
  with pytest.raises(ValueError, match=r"no clips.*broken"):
    store.write_store(tmp_path, make_manifest(num_clips=0), make_examples)


def test_a_folder_that_cannot_be_made(tmp_path):
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(StoreError, match=r"cannot write .*latents\.root"):
    store.write_store(tmp_path / "file" / "x", make_manifest(), make_examples)


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
  """A limit on file sizes makes the writes of a child process fail."""
  code = f"""
    import resource, sys
    sys.path.insert(0, {os.path.dirname(__file__)!r})
    from noise_store import make_examples, make_manifest
    from forecasting.latents import store
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
      store.write_store({str(tmp_path)!r}, make_manifest(), make_examples)
    except store.StoreError as error:
      print(error)
  """
  run = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code)],
    capture_output=True,
    text=True,
    check=True,
  )
  assert "cannot write" in run.stdout and "Free some space" in run.stdout
  assert list(tmp_path.iterdir()) == []


SNIPPET = textwrap.dedent(store.__doc__.split("no JAX:\n")[1])


def test_the_documented_way_to_bring_your_own(tmp_path):
  """Runs the docstring, word for word, and JAX is not even imported."""
  code = SNIPPET + "\nimport sys; assert 'jax' not in sys.modules"
  run = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env={**os.environ, "PYTHONPATH": os.getcwd()},
  )
  assert run.returncode == 0, run.stderr
  assert run.stdout == "5 (8, 4, 4, 8)\n"
  latents = LatentStore(tmp_path / "latents/train", verify=True)
  rng = np.random.default_rng(0)
  video = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
  np.testing.assert_array_equal(latents[0]["video"], video)
  np.testing.assert_allclose(
    latents[0]["context"], rng.normal(size=(2, 4, 4, 8)), atol=2e-2
  )
  assert latents[4]["clip_id"] == "my_video_4"
  assert latents.manifest.tubelet == 2


def test_writing_examples_replaces_a_store_and_splits_it(tmp_path):
  about = {
    "backbone": "mine",
    "dataset": "d",
    "split": "train",
    "context_mode": "pad_last",
    "num_context": 4,
    "clips_per_shard": 2,
    "dtype": "float32",
  }
  for count in (5, 3):
    latents = store.write_examples(
      tmp_path, map(make_example, range(count)), **about
    )
    assert len(latents) == count
  assert len(list(tmp_path.glob("*.array_record"))) == 2
  np.testing.assert_array_equal(latents[2]["clip"], make_example(2)["clip"])
