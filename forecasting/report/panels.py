"""A file of kept clips -> columns of tiles: the truth and forecasts of it."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from forecasting.report import drawing

NUM_POINTS = 16  # more would hide the picture
NUM_SINGLE = 5  # forecasters with one future that are shown side by side

Tile = Callable[[int, int, int], object]


@dataclasses.dataclass(frozen=True)
class Column:
  """What one column of panels shows.

  Attributes:
    label: above it.
    tile: (clip, frame, side in pixels) -> Pillow image.
  """

  label: str
  tile: Tile


class Clips:
  """A panel file.

  Attributes:
    task: its name.
    clip_ids: of the clips.
    num_frames: of every clip.
    num_context: observed frames.
    depth_range: meters at the ends of the color scale; None but for depth.
  """

  def __init__(self, path: Path):
    """Reads `<task>.npz`.

    Raises:
      ValueError: if an array is missing; names it and the file.
    """
    self.task = path.stem
    with np.load(path, allow_pickle=False) as file:
      self._arrays = {name: file[name] for name in file.files}
    missing = {"video", "num_context", "truth"} - set(self._arrays)
    if missing:
      raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    number = len(self._arrays["video"])
    ids = self._arrays.get("clip_id", np.arange(1, number + 1))
    self.clip_ids = [str(clip_id) for clip_id in ids]
    self.num_frames = self._arrays["video"].shape[1]
    self.num_context = int(self._arrays["num_context"])
    self.depth_range = None
    if self.task == "depth":
      self.depth_range = drawing.depth_range(self._arrays["truth"])

  def forecasters(self, kinds: Mapping[str, str]) -> list[str]:
    """Returns names in the order of `kinds`, then what it lacks."""
    found = [
      name.removesuffix("/samples")
      for name in self._arrays
      if name.endswith("/samples")
    ]
    order = {name: number for number, name in enumerate(kinds)}
    return sorted(found, key=lambda name: order.get(name, len(order)))

  def num_samples(self, forecaster: str) -> int:
    """Returns how many samples of a forecaster were kept."""
    return self._arrays[f"{forecaster}/samples"].shape[1]

  def truth(self) -> Column:
    """Returns the column of the observed clip."""
    return Column("truth", self._tile(None, None))

  def sample(self, forecaster: str, number: int, label: str) -> Column:
    """Returns the column of one sample."""
    values = self._arrays[f"{forecaster}/samples"][:, number]
    visible = self._arrays.get(f"{forecaster}/visible")
    visible = None if visible is None else visible[:, number]
    return Column(label, self._tile(values, visible))

  def mean(self, forecaster: str, label: str) -> Column:
    """Returns the column of the mean over all samples."""
    values = self._arrays[f"{forecaster}/mean"]
    visible = self._arrays.get(f"{forecaster}/visible")
    visible = None if visible is None else visible.mean(axis=1) > 0.5
    return Column(label, self._tile(values, visible))

  def _tile(self, values, visible) -> Tile:
    """Tiles of a forecast, or of the truth if `values` is None."""
    if self.task in ("points", "boxes"):
      return self._overlay_tile(values, visible)
    shown = self._arrays["truth"] if values is None else values

    def tile(clip: int, time: int, size: int):
      frame = shown[clip, time]
      if self.depth_range:
        frame = drawing.depth_picture(
          frame, *self.depth_range, is_truth=values is None
        )
      return drawing.enlarge(drawing.picture(frame), size)

    return tile

  def _overlay_tile(self, values, visible) -> Tile:
    def tile(clip: int, time: int, size: int):
      chosen = self._chosen(clip)
      forecast = None
      if values is not None:
        points = values[clip][:, chosen].astype(np.float32)
        shown = np.ones(points.shape[:2], bool)
        solid = shown if visible is None else visible[clip][:, chosen]
        forecast = drawing.Overlay(points, shown, solid)
      frame = self._arrays["video"][clip, time]
      return drawing.overlay(
        frame, time, size, self._truth(clip, chosen), forecast
      )

    return tile

  def _truth(self, clip: int, chosen: np.ndarray) -> drawing.Overlay:
    name = "truth_visible" if self.task == "points" else "truth_present"
    truth = self._arrays["truth"][clip][:, chosen]
    shown = np.ones(truth.shape[:2], bool)
    if name in self._arrays:
      shown = self._arrays[name][clip][:, chosen]
    return drawing.Overlay(truth, shown, shown)

  def _chosen(self, clip: int) -> np.ndarray:
    """Objects that are shown: those that are no padding, not too many."""
    number = self._arrays["truth"].shape[2]
    mask = self._arrays.get("mask", np.ones((clip + 1, number), bool))
    kept = np.flatnonzero(mask[clip])
    if self.task == "boxes" or len(kept) <= NUM_POINTS:
      return kept
    return kept[np.linspace(0, len(kept) - 1, NUM_POINTS).round().astype(int)]
