"""A picture of a few clips with their labels: does the data look right?"""

from collections.abc import Mapping

import numpy as np

from forecasting.frames.clip import Clip
from forecasting.report import drawing

TILE = 160
NUM_FRAMES = 5
_TITLE = 20
_GAP = 4


def contact_sheet(clips: Mapping[str, Clip]):
  """Draws a row of frames per clip, with depth maps in a row below.

  Args:
    clips: title to clip; points and boxes are drawn on the frames.

  Returns:
    A Pillow image.
  """
  from PIL import Image, ImageDraw

  rows = [_row(title, clip) for title, clip in clips.items()]
  width = max(row.width for row in rows)
  sheet = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
  top = 0
  for row in rows:
    sheet.paste(row, (0, top))
    ImageDraw.Draw(sheet).line((0, top, width, top), fill="black")
    top += row.height
  return sheet


def _row(title: str, clip: Clip):
  """Frames of one clip under its title."""
  from PIL import Image, ImageDraw

  num_frames = len(clip["video"])
  times = np.linspace(0, num_frames - 1, min(NUM_FRAMES, num_frames))
  times = times.round().astype(int).tolist()
  lines = [[_tile(clip, time) for time in times]]
  if "depth" in clip:
    low, high = drawing.depth_range(clip["depth"])
    title += f"   depth {low:.2f} to {high:.2f} m"
    lines.append(
      [
        drawing.enlarge(
          drawing.depth_picture(clip["depth"][time], low, high, True), TILE
        )
        for time in times
      ]
    )
  step = TILE + _GAP
  row = Image.new(
    "RGB", (step * len(times), _TITLE + step * len(lines)), "white"
  )
  ImageDraw.Draw(row).text((4, 3), title, "black", drawing.font(12))
  for line, tiles in enumerate(lines):
    for column, tile in enumerate(tiles):
      row.paste(tile, (step * column, _TITLE + step * line))
  return row


def _tile(clip: Clip, time: int):
  """A frame with its points or boxes."""
  frame = clip["video"][time]
  for values, seen, kept in (
    ("tracks", "visible", "track_mask"),
    ("boxes", "box_mask", "object_mask"),
  ):
    if values in clip:
      shown = clip[seen] & clip[kept]
      overlay = drawing.Overlay(clip[values], shown, shown)
      return drawing.overlay(frame, time, TILE, overlay, None)
  return drawing.enlarge(frame, TILE)
