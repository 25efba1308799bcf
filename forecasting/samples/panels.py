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

  Attributes:
    arrays: task to the arrays of its file.
  """

  def __init__(self, num_panels: int, num_context: int):
    """Keeps the first `num_panels` clips it is given."""
    self._num_panels = num_panels
    self._num_context = num_context
    self.arrays: dict[str, dict[str, np.ndarray]] = {}

  def add(
    self, task: str, forecaster: str, batch: Batch, outputs: Mapping[str, Any]
  ) -> None:
    """Takes the first batch of a forecaster.

    Args:
      task: its name.
      forecaster: its name.
      batch: clips with their labels.
      outputs: [B S T ...] of the readout; points with `visible` [B S T Q].
    """
    number = self._num_panels
    arrays = self.arrays.setdefault(task, self._truth(task, batch))
    values = np.asarray(outputs[_OUTPUT[task]][:number], np.float32)
    arrays[f"{forecaster}/samples"] = values[:, :NUM_SHOWN].astype(np.float16)
    arrays[f"{forecaster}/mean"] = values.mean(axis=1).astype(np.float16)
    if task == "points":
      seen = np.asarray(outputs["visible"][:number])
      arrays[f"{forecaster}/visible"] = seen[:, :NUM_SHOWN]

  def write(self, folder: Path) -> None:
    """Writes `<task>.npz` files, each through a rename."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, arrays in self.arrays.items():
      path = folder / f"{task}.npz"
      partial = folder / f"{task}.npz.tmp"
      with open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
      partial.rename(path)

  def _truth(self, task: str, batch: Batch) -> dict[str, np.ndarray]:
    def first(name: str) -> np.ndarray:
      return np.asarray(batch[name][: self._num_panels])

    arrays = {
      "video": first("video"),
      "num_context": np.asarray(self._num_context),
      "truth": first(_OUTPUT[task]),
    }
    if task == "points":
      arrays |= {
        "truth_visible": first("visible"),
        "mask": first("track_mask"),
      }
    if task == "boxes":
      arrays |= {
        "truth_present": first("box_mask"),
        "mask": first("object_mask"),
      }
    return arrays
