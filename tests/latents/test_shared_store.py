"""Runs that share a folder of latents write it one after the other."""

import threading
import time
from concurrent import futures

import numpy as np
import pytest
from noise_store import make_examples, make_manifest

from forecasting.frames.one_writer import one_writer
from forecasting.latents import normalize, store
from forecasting.latents.store import StoreError

WAITS = pytest.raises(futures.TimeoutError)


def _write(path, calls, host=(0, 1), barrier=None, wait=None):
  """Writes a store as extraction does; notes which shards it encoded."""

  def examples(shards):
    calls.append(list(shards))
    for example in make_examples(shards):
      if wait is not None:
        wait.wait(60)
      yield example

  with store.exclusive(path, host, barrier):
    return store.write_store(
      path, make_manifest(), examples, host=host, barrier=barrier
    )


def test_a_second_run_waits_and_finds_the_latents_of_the_first(tmp_path):
  first, second, go = [], [], threading.Event()
  with futures.ThreadPoolExecutor() as pool:
    writing = pool.submit(_write, tmp_path, first, wait=go)
    while not first:
      pass
    waiting = pool.submit(_write, tmp_path, second)
    with WAITS:
      waiting.result(0.3)
    go.set()
    assert len(writing.result(60)) == len(waiting.result(60)) == 11
  assert len(first) == 1 and second == []


def test_hosts_of_two_runs_take_turns_and_do_not_block_each_other(tmp_path):
  """Each run has two hosts; their second ones come first."""
  calls = [[], []]
  barriers = [threading.Barrier(2, timeout=60) for _ in calls]
  with futures.ThreadPoolExecutor(4) as pool:
    done = [
      pool.submit(_write, tmp_path, calls[run], (rank, 2), barriers[run].wait)
      for rank in (1, 0)
      for run in (0, 1)
    ]
    for future in done:
      assert len(future.result(60)) == 11
  assert sorted(map(len, calls)) == [0, 2]


def test_no_host_writes_before_its_run_has_the_lock(tmp_path):
  calls, barrier = [], threading.Barrier(2, timeout=60)
  with futures.ThreadPoolExecutor() as pool:
    with one_writer(tmp_path, "latents"):
      done = [
        pool.submit(_write, tmp_path, calls, (rank, 2), barrier.wait)
        for rank in range(2)
      ]
      with WAITS:
        done[1].result(0.3)
      assert not calls
    for future in done:
      future.result(60)


def test_statistics_of_one_store_are_written_one_by_one(tmp_path, monkeypatch):
  latents = store.write_store(tmp_path, make_manifest(), make_examples)
  inside, most = [], []
  write = normalize.manifest_lib.write_atomically

  def slow(file, content):
    inside.append(file)
    time.sleep(0.2)  # for the other one to come in
    most.append(len(inside))
    write(file, content)
    inside.pop()

  monkeypatch.setattr(normalize.manifest_lib, "write_atomically", slow)
  values = {"x": np.ones(3, np.float32)}

  def save():
    normalize.save_tensors(values, latents, len(latents), "x.safetensors")

  with futures.ThreadPoolExecutor() as pool:
    for future in [pool.submit(save) for _ in range(2)]:
      future.result(60)
  assert most == [1, 1]


def test_a_folder_that_cannot_be_written_names_the_field_of_its_use(tmp_path):
  (tmp_path / "file").touch()
  path = tmp_path / "file" / "train"
  with (
    pytest.raises(StoreError, match=r"file/train.*config\.latents\.root"),
    store.exclusive(path),
  ):
    pass
  with (
    pytest.raises(OSError, match=r"the report to .*with --workdir"),
    one_writer(path, "the report", "--workdir"),
  ):
    pass
