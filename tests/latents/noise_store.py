"""Examples of a small store, made from noise."""

from collections.abc import Iterator, Sequence

import numpy as np

from forecasting.latents.manifest import Manifest

NUM_CLIPS = 11
CLIPS_PER_SHARD = 4


def make_manifest(**fields) -> Manifest:
  """Returns the manifest of `make_example`'s clips, with other fields."""
  defaults = {
    "backbone": "toy",
    "weights_digest": "abc",
    "layer": "block 1 of 1",
    "context_mode": "crop_pos",
    "dtype": "float32",
    "context_shape": (2, 2, 3, 5),
    "clip_shape": (4, 2, 3, 5),
    "dataset": "noise",
    "fingerprint": "f00d",
    "split": "train",
    "resolution": 8,
    "preprocessing": "none",
    "num_frames": 8,
    "num_context": 4,
    "tubelet": 2,
    "labels": ("box_mask", "depth", "seconds", "start_frame", "video"),
    "num_clips": NUM_CLIPS,
    "clips_per_shard": CLIPS_PER_SHARD,
    "skipped": {"broken": 1},
  }
  return Manifest(**{**defaults, **fields})


def make_example(index: int) -> dict[str, np.ndarray]:
  """Returns one example; a function of its index alone."""
  rng = np.random.default_rng(index)
  return {
    "context": rng.normal(size=(2, 2, 3, 5)).astype(np.float32),
    "clip": rng.normal(3, 2, size=(4, 2, 3, 5)).astype(np.float32),
    "clip_id": np.array(f"clip {index}, é"),
    "seconds": np.arange(8, dtype=np.float32) / 8,
    "video": rng.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8),
    "depth": rng.random((8, 8, 8, 1)).astype(np.float16),
    "box_mask": rng.random((8, 2)) > 0.5,
    "start_frame": np.array(index, np.int32),
  }


def make_examples(shards: Sequence[range]) -> Iterator[dict[str, np.ndarray]]:
  """Yields the examples of shards, as `write_store` asks for them."""
  for shard in shards:
    for index in shard:
      yield make_example(index)
