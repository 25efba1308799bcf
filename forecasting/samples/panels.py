"""The first few clips of an evaluation, kept for the report's animations."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.shapes import Batch

# How each task's outputs and labels are named in a panel file.
_OUTPUT = {
  "pixels": "video",
  "depth": "depth",
  "points": "tracks",
  "boxes": "boxes",
}
NUM_SHOWN = 3  # samples of a forecast


class Panels:
  """Collects what one forecast and its truth look like.

  Batches may come in any order, and several threads may bring them.
  """

  def __init__(self, num_panels: int, num_context: int):
    """Keeps the clips of the first `num_panels` places."""
    self._num_panels = num_panels
    self._num_context = num_context
    # Task to place of a batch's first clip to the batch's arrays.
    self._parts: dict[str, dict[int, dict[str, np.ndarray]]] = {}

  def wants(self, first: int) -> bool:
    """Returns whether it keeps the clip of this place."""
    return first < self._num_panels

  def add(
    self,
    task: str,
    forecaster: str,
    batch: Batch,
    outputs: Mapping[str, Any],
    first: int = 0,
  ) -> None:
    """Takes a batch of a forecaster, as far as its clips are kept.

    Args:
      task: its name.
      forecaster: its name.
      batch: clips with their labels.
      outputs: [B S T ...] of the readout; points with `visible` [B S T Q].
      first: place of the batch's first clip, the same for all forecasters.
    """
    if not self.wants(first):
      return
    number = self._num_panels - first
    parts = self._parts.setdefault(task, {})
    if first not in parts:
      parts[first] = self._truth(task, batch, number)
    arrays = parts[first]
    values = np.asarray(outputs[_OUTPUT[task]][:number], np.float32)
    arrays[f"{forecaster}/samples"] = values[:, :NUM_SHOWN].astype(np.float16)
    arrays[f"{forecaster}/mean"] = values.mean(axis=1).astype(np.float16)
    if task == "points":
      seen = np.asarray(outputs["visible"][:number])
      arrays[f"{forecaster}/visible"] = seen[:, :NUM_SHOWN]

  def write(self, folder: Path) -> None:
    """Writes `<task>.npz` files, each through a rename."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, parts in self._parts.items():
      ordered = [parts[first] for first in sorted(parts)]
      arrays = {
        name: np.concatenate([part[name] for part in ordered])
        for name in ordered[0]
      }
      arrays["num_context"] = np.asarray(self._num_context)
      path = folder / f"{task}.npz"
      partial = folder / f"{task}.npz.tmp"
      with open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
      partial.rename(path)

  def _truth(
    self, task: str, batch: Batch, number: int
  ) -> dict[str, np.ndarray]:
    """Returns the frames and labels of a batch's first clips."""
    names = {"video": "video", "truth": _OUTPUT[task]}
    if task == "points":
      names |= {"truth_visible": "visible", "mask": "track_mask"}
    if task == "boxes":
      names |= {"truth_present": "box_mask", "mask": "object_mask"}
    return {
      name: np.asarray(batch[label][:number]) for name, label in names.items()
    }
