"""Batches are what the store holds, in an order that resumes exactly."""

import itertools

import numpy as np
import pytest
from noise_store import NUM_CLIPS, make_example

from forecasting.latents import pipeline

IDS = {}


@pytest.fixture
def latents(write):
  opened = write()
  IDS.update({int(opened[i]["example_id"]): i for i in range(NUM_CLIPS)})
  return opened


def order(batches, count):
  """Returns which clips the next batches hold."""
  taken = [next(batches)["example_id"] for _ in range(count)]
  return [[IDS[int(i)] for i in batch] for batch in taken]


def test_a_batch_holds_the_examples_without_strings(latents):
  batch = next(pipeline.train_batches(latents, 3, seed=1))
  assert set(batch) == {*make_example(0), "example_id"} - {"clip_id"}
  assert batch["example_id"].dtype == np.uint32
  assert batch["box_mask"].dtype == bool
  for row, clip in enumerate(int(i) for i in batch["start_frame"]):
    expected = make_example(clip)
    for name in set(batch) - {"example_id"}:
      np.testing.assert_array_equal(batch[name][row], expected[name])


def test_keys_choose_the_tensors(latents):
  batch = next(pipeline.train_batches(latents, 2, 0, keys=("clip",)))
  assert set(batch) == {"clip", "example_id"}
  with pytest.raises(KeyError, match="tracks"):
    next(pipeline.train_batches(latents, 2, 0, keys=("tracks",)))


def test_every_epoch_has_every_clip_in_another_order(latents):
  clips = order(pipeline.train_batches(latents, 1, seed=3), 3 * NUM_CLIPS)
  flat = [i for batch in clips for i in batch]
  epochs = [tuple(flat[k : k + NUM_CLIPS]) for k in range(0, 33, NUM_CLIPS)]
  assert all(sorted(epoch) == list(range(NUM_CLIPS)) for epoch in epochs)
  assert len(set(epochs)) == 3 and tuple(range(NUM_CLIPS)) not in epochs


def test_the_seed_determines_the_order(latents):
  first, again, other = (
    order(pipeline.train_batches(latents, 4, seed), 5) for seed in (0, 0, 1)
  )
  assert first == again != other


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_resuming_gives_exactly_the_next_batch(latents, taken):
  uninterrupted = order(pipeline.train_batches(latents, 4, seed=5), 12)
  batches = pipeline.train_batches(latents, 4, seed=5)
  order(batches, taken)
  state = batches.get_state()
  order(batches, 2)  # what was read ahead must not be lost
  resumed = pipeline.train_batches(latents, 4, seed=5)
  resumed.set_state(state)
  assert order(resumed, 6) == uninterrupted[taken : taken + 6]
  batches.set_state(state)
  assert order(batches, 6) == uninterrupted[taken : taken + 6]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_batches_of_one(latents, count):
  whole = order(pipeline.train_batches(latents, 4, 7, process=(0, 1)), 9)
  parts = [
    order(pipeline.train_batches(latents, 4, 7, process=(k, count)), 9)
    for k in range(count)
  ]
  for step, batch in enumerate(whole):
    shared = itertools.chain.from_iterable(part[step] for part in parts)
    assert sorted(shared) == sorted(batch)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 16])
def test_evaluation_is_in_order_and_padded(latents, batch_size):
  batches = list(pipeline.EvalBatches(latents, batch_size))
  assert all(len(batch["clip"]) == batch_size for batch in batches)
  index = np.concatenate([batch["index"] for batch in batches])
  mask = np.concatenate([batch["mask"] for batch in batches])
  assert index.dtype == np.int32 and mask.dtype == bool
  np.testing.assert_array_equal(index[mask], np.arange(NUM_CLIPS))
  assert mask.sum() == NUM_CLIPS and len(mask) - NUM_CLIPS < batch_size
  for batch in batches:
    for row, clip in enumerate(batch["index"]):
      expected = make_example(int(clip))
      np.testing.assert_array_equal(batch["clip"][row], expected["clip"])


@pytest.mark.parametrize("number", [1, 4, NUM_CLIPS, 99])
def test_evaluation_of_some_clips_takes_them_from_the_whole_store(
  latents, number
):
  rows = pipeline.evenly_spread(latents, number)
  assert len(set(rows)) == min(number, NUM_CLIPS)
  if number > 1:
    assert (rows[0], rows[-1]) == (0, NUM_CLIPS - 1)
    assert np.ptp(np.diff(rows)) <= 1
  batches = list(pipeline.EvalBatches(latents, 3, ("clip",), rows))
  index, mask = (
    np.concatenate([batch[name] for batch in batches])
    for name in ("index", "mask")
  )
  np.testing.assert_array_equal(index[mask], rows)
  for batch in batches:
    for row, clip in enumerate(batch["index"]):
      expected = make_example(int(clip))["clip"]
      np.testing.assert_array_equal(batch["clip"][row], expected)


def test_a_batch_that_cannot_be_shared_is_refused(latents):
  with pytest.raises(ValueError, match=r"batch_size 5 .* 2 processes"):
    pipeline.train_batches(latents, 5, 0, process=(0, 2))
  with pytest.raises(ValueError, match="batch_size 0"):
    pipeline.EvalBatches(latents, 0)
