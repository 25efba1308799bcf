"""Batches shared by devices and processes come back in order, bit for bit."""

import threading
import time

import jax
import numpy as np
import pytest

from forecasting import scoring, sharing
from forecasting.metrics import vectors
from forecasting.training import distributed


@pytest.mark.parametrize(("platform", "at_once"), [("cpu", 2), ("tpu", 1)])
def test_results_are_in_order_whichever_is_ready_first(
  monkeypatch, platform, at_once
):
  monkeypatch.setattr(sharing.jax, "default_backend", lambda: platform)
  inside, together, most = [], [], []

  def work(number, device):
    with device.use():
      inside.append(number)
      most.append(len(inside))
      value = jax.numpy.full(2, number)
      time.sleep(0.002 * (3 - number % 3))
      inside.remove(number)
    together.append(threading.get_ident())
    time.sleep(0.002 * ((number + 1) % 3))
    return {"x": np.asarray(value)}

  found = sharing.map_batches(work, 9)
  assert [part["x"].tolist() for part in found] == [[i, i] for i in range(9)]
  assert len(set(together)) == 2  # the host's share overlaps
  assert max(most) == at_once
  assert most[1] == 1  # the first was alone: it compiles what all others use


def test_failing_work_ends_the_rest():
  started = []

  def work(number, device):
    del device
    started.append(number)
    if number == 1:
      raise ValueError("batch 1")
    time.sleep(0.01)
    return {}

  with pytest.raises(ValueError, match="batch 1"):
    sharing.map_batches(work, 50)
  assert len(started) < 50


def test_arrays_travel_between_processes_bit_for_bit(monkeypatch):
  arrays = {
    "a/b": np.random.default_rng(0).normal(size=(5, 3)),
    "count": np.array(7),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 4)),
    "wide": np.array([2**62 + 1]),
  }
  monkeypatch.setattr(distributed, "_CHUNK", 100)
  monkeypatch.setattr(distributed.jax, "process_count", lambda: 2)

  def allgather(array):
    # What JAX may hold: 64 bits would be rounded.
    assert array.dtype == np.uint8 and array.size <= 100
    return np.stack([array, array])

  monkeypatch.setattr(
    distributed.multihost_utils, "process_allgather", allgather
  )
  both = distributed.gather_arrays(arrays)
  assert len(both) == 2
  for found in both:
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
      assert found[name].dtype == value.dtype
      np.testing.assert_array_equal(found[name], value)


def test_processes_take_turns_and_their_batches_are_joined(monkeypatch):
  """Each process does every second batch; both know all."""
  monkeypatch.setattr(sharing.jax, "process_count", lambda: 2)
  done = {}
  for process in (0, 1):
    sent = []
    monkeypatch.setattr(sharing.jax, "process_index", lambda p=process: p)
    monkeypatch.setattr(
      sharing.distributed,
      "gather_arrays",
      lambda arrays, sent=sent: sent.append(arrays) or [],
    )
    sharing.map_batches(lambda i, device: {"x": np.array(i)}, 5)
    (done[process],) = sent
  assert set(done[0]) == {"0:x", "2:x", "4:x"} and set(done[1]) == {
    "1:x",
    "3:x",
  }
  monkeypatch.setattr(
    sharing.distributed, "gather_arrays", lambda _: [done[0], done[1]]
  )
  found = sharing.map_batches(lambda i, device: {"x": np.array(i)}, 5)
  assert [int(part["x"]) for part in found] == list(range(5))


def test_what_was_scored_survives_being_packed():
  def part(first, count, rows):
    rng = np.random.default_rng(first)
    return {
      task: scoring.Scored(
        {"iou": rng.normal(size=(count, 2)), "other": rng.normal(size=count)},
        vectors.Vectors(
          pred=rng.normal(size=(rows, 2, 24)),
          truth=rng.normal(size=(rows, 24)),
          example=np.sort(rng.integers(0, count, rows)),
          track=rng.integers(0, 9, rows),
          num_examples=count,
          num_dropped=first,
          num_frames=12,
        ),
      )
      for task in ("boxes", "points")
    }

  parts = [part(0, 4, 3), part(1, 4, 0), part(2, 2, 5)]
  joined = scoring.join([scoring.pack(p) for p in parts])
  assert list(joined) == ["boxes", "points"]
  for task, scored in joined.items():
    for name, value in scored.values.items():
      expected = np.concatenate([p[task].values[name] for p in parts])
      np.testing.assert_array_equal(value, expected)
    expected = vectors.concatenate([p[task].rows for p in parts])
    np.testing.assert_array_equal(scored.rows.pred, expected.pred)
    np.testing.assert_array_equal(scored.rows.example, expected.example)
    assert (scored.rows.num_examples, scored.rows.num_dropped) == (10, 3)
    assert scored.rows.num_frames == 12
