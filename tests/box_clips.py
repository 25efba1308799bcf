"""Clips with two boxes, and forecasts of them that miss by a known amount."""

import numpy as np

from forecasting import scoring
from forecasting.latents import store
from forecasting.samples.predict import Predictor

CLIPS, SAMPLES, FRAMES, START = 6, 3, 16, 4
NOTHING = 5  # the clip without an object: nothing to score


def settings(batch_size=4):
  return scoring.Settings(
    tasks=("boxes",),
    num_context=START,
    num_frames=FRAMES,
    batch_size=batch_size,
    bootstrap=50,
    bootstrap_frechet=4,
    progress=False,
  )


def write(folder):
  """Returns a store whose clips get harder, one of them without an object."""
  rng = np.random.default_rng(0)
  examples = []
  for i in range(CLIPS):
    corner = rng.uniform(0.1, 0.4, (1, 2, 2))
    boxes = np.concatenate([corner, corner + 0.3], axis=-1)
    examples.append(
      {
        "clip_id": f"clip {i}",
        "seconds": np.arange(FRAMES, dtype=np.float32) / 12.5,
        "video": np.full((FRAMES, 8, 8, 3), i, np.uint8),
        "boxes": np.repeat(boxes, FRAMES, axis=0).astype(np.float32),
        "box_mask": np.full((FRAMES, 2), i != NOTHING),
        "object_mask": np.full(2, i != NOTHING),
        "context": rng.normal(size=(2, 2, 2, 4)),
        "clip": rng.normal(size=(8, 2, 2, 4)),
      }
    )
  store.write_examples(
    folder,
    examples,
    backbone="noise",
    dataset="noise",
    split="eval",
    context_mode="crop_pos",
    num_context=START,
  )
  return store.LatentStore(folder)


def predictor(spoil=lambda boxes, index: None, samples=SAMPLES):
  """Forecasts that miss by more from clip to clip."""

  def predict(tasks, batch):
    assert tuple(tasks) == ("boxes",)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(CLIPS, samples, FRAMES, 2, 4))[batch["index"]]
    size = 0.02 * (1 + batch["index"])
    boxes = batch["boxes"][:, None] + size[:, None, None, None, None] * noise
    boxes = boxes.astype(np.float32)
    spoil(boxes, batch["index"])
    return {"boxes": {"boxes": boxes}}

  return Predictor("made", "baseline", 0, predict)


def perception(spoil=lambda boxes, index: None):
  return predictor(spoil, samples=1)
