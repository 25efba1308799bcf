"""Animations and still strips of single clips. Source: paper, Figure 4."""

import base64
import dataclasses
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from forecasting.report import drawing
from forecasting.report.panels import NUM_SINGLE, Clips, Column

TILE = 144
STILL_TILE = 88
NUM_STILLS = 8
QUALITY = 62  # of WebP; a page of 4 tasks stays below 8 MB
FRAME_MILLISECONDS = 220
LAST_MILLISECONDS = 1200
_MARGIN = 6
_BAR = 26  # height of the line with the frame counter
_LABEL = 18  # height of a line of column labels
_SCALE_WIDTH = 62


@dataclasses.dataclass(frozen=True)
class Block:
  """One animation with its stills.

  Attributes:
    title: what is forecast by whom.
    columns: labels, left to right.
    clips: ids, top to bottom.
    animation: WebP bytes with all frames.
    stills: WebP bytes, one per clip.
    size: of the animation in pixels.
  """

  title: str
  columns: Sequence[str]
  clips: Sequence[str]
  animation: bytes
  stills: Sequence[bytes]
  size: tuple[int, int]


def blocks(path: Path, kinds: Mapping[str, str]) -> Iterator[Block]:
  """Draws the clips of one task.

  One block per trained forecaster that draws several samples (truth, samples,
  mean), then one of all that give a single future side by side.

  Args:
    path: of `<task>.npz`.
    kinds: forecaster to 'trained', 'baseline' or 'oracle'.
  """
  clips = Clips(path)
  names = clips.forecasters(kinds)
  for name in names:
    number = clips.num_samples(name)
    if number > 1 and kinds.get(name, "trained") == "trained":
      columns = [clips.truth()]
      columns += [
        clips.sample(name, i, f"sample {i + 1}") for i in range(number)
      ]
      columns.append(clips.mean(name, "mean"))
      yield _block(clips, name, columns)
  single = [name for name in names if clips.num_samples(name) == 1]
  rank = {"trained": 0, "oracle": 1, "baseline": 2}
  single.sort(key=lambda name: rank.get(kinds.get(name, "trained"), 3))
  single = single[:NUM_SINGLE]
  if single:
    columns = [clips.sample(name, 0, name) for name in single]
    yield _block(
      clips, "forecasters with one future", [clips.truth(), *columns]
    )


def to_html(block: Block) -> str:
  """Returns a figure: the animation and, in its stead on paper, stills."""
  width, height = block.size
  columns = ", ".join(block.columns)
  title = html.escape(block.title)
  alt = html.escape(
    f"Animation, {block.title}: columns {columns}; one row per clip."
  )
  stills = "".join(
    f'<img src="{_source(image)}" loading="lazy" alt="'
    + html.escape(f"Still frames of clip {clip}, {block.title}: {columns}.")
    + '">'
    for clip, image in zip(block.clips, block.stills)
  )
  clips = html.escape(", ".join(block.clips))
  return (
    f'<figure><img class="moving" src="{_source(block.animation)}" '
    f'width="{width}" height="{height}" alt="{alt}">'
    f'<div class="stills">{stills}</div>'
    f"<figcaption><b>{title}</b>. Columns: {html.escape(columns)}. "
    f"Clips: {clips}.</figcaption></figure>"
  )


def _block(clips: Clips, title: str, columns: Sequence[Column]) -> Block:
  frames = [_frame(clips, columns, time) for time in range(clips.num_frames)]
  durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_MILLISECONDS]
  return Block(
    title=f"{clips.task}: {title}",
    columns=[column.label for column in columns],
    clips=clips.clip_ids,
    animation=_webp(
      frames[0], save_all=True, append_images=frames[1:], duration=durations
    ),
    stills=[
      _webp(_strip(clips, columns, clip)) for clip in range(len(clips.clip_ids))
    ],
    size=frames[0].size,
  )


def _frame(clips: Clips, columns: Sequence[Column], time: int):
  """One frame of the animation."""
  from PIL import Image, ImageDraw

  is_observed = time < clips.num_context
  first = drawing.framed(columns[0].tile(0, time, TILE), is_observed)
  step = first.width + _MARGIN
  top = _BAR + _LABEL
  width = step * len(columns) + (_SCALE_WIDTH if clips.depth_range else 0)
  image = Image.new("RGB", (width, top + step * len(clips.clip_ids)), "white")
  draw = ImageDraw.Draw(image)
  _counter(draw, time, clips.num_frames, clips.num_context)
  for number, column in enumerate(columns):
    draw.text(
      (number * step + first.width // 2, _BAR + _LABEL // 2),
      column.label,
      "black",
      drawing.font(12),
      anchor="mm",
    )
    for clip in range(len(clips.clip_ids)):
      tile = drawing.framed(column.tile(clip, time, TILE), is_observed)
      image.paste(tile, (number * step, top + clip * step))
  if clips.depth_range:
    left = step * len(columns)
    _scale_bar(image, draw, left, top, first.height, clips.depth_range)
  return image


def _counter(draw, time: int, num_frames: int, num_context: int) -> None:
  """Frame number, what kind of frame it is, and one mark per frame."""
  is_observed = time < num_context
  word = "observed" if is_observed else "forecast"
  color = drawing.OBSERVED if is_observed else drawing.FORECAST
  text = f"frame {time:2d} / {num_frames - 1}  {word}"
  draw.text((2, _BAR // 2), text, color, drawing.font(14, True), anchor="lm")
  for number in range(num_frames):
    left, middle = 206 + 9 * number, _BAR // 2
    box = (left, middle - 5, left + 6, middle + 5)
    hue = drawing.OBSERVED if number < num_context else drawing.FORECAST
    draw.rectangle(box, fill=hue if number <= time else "white", outline=hue)


def _scale_bar(image, draw, left, top, height, meters) -> None:
  """Colors of depth with their meters, far at the top."""
  from PIL import Image

  low, high = meters
  colors = drawing.colormap()[np.linspace(255, 0, height).astype(int)]
  bar = Image.fromarray(np.repeat(colors[:, None], 12, axis=1))
  image.paste(bar, (left + 4, top))
  for share in (0.0, 0.5, 1.0):
    y = top + round((1 - share) * (height - 1))
    anchor = {0.0: "ld", 0.5: "lm", 1.0: "la"}[share]
    text = f"{low + share * (high - low):.1f} m"
    draw.text((left + 20, y), text, "black", drawing.font(11), anchor=anchor)


def _strip(clips: Clips, columns: Sequence[Column], clip: int):
  """Still frames of one clip: a row per column of the animation."""
  from PIL import Image, ImageDraw

  future = np.linspace(clips.num_context, clips.num_frames - 1, NUM_STILLS - 2)
  future = future.round().astype(int).tolist()
  times = sorted({0, clips.num_context - 1, *future})
  first = drawing.framed(columns[0].tile(clip, 0, STILL_TILE), True)
  step, left = first.width + _MARGIN, 130
  width = left + step * len(times)
  width += _SCALE_WIDTH if clips.depth_range else 0
  image = Image.new("RGB", (width, _LABEL + step * len(columns)), "white")
  draw = ImageDraw.Draw(image)
  for place, time in enumerate(times):
    is_observed = time < clips.num_context
    x = left + place * step
    word = "observed" if is_observed else "forecast"
    color = drawing.OBSERVED if is_observed else drawing.FORECAST
    draw.text(
      (x + first.width // 2, _LABEL // 2),
      f"{time} {word}",
      color,
      drawing.font(11, True),
      anchor="mm",
    )
    for number, column in enumerate(columns):
      tile = column.tile(clip, time, STILL_TILE)
      y = _LABEL + number * step
      image.paste(drawing.framed(tile, is_observed), (x, y))
  for number, column in enumerate(columns):
    middle = _LABEL + number * step + first.height // 2
    draw.text((2, middle), column.label, "black", drawing.font(12), anchor="lm")
  if clips.depth_range:
    right = left + step * len(times)
    _scale_bar(image, draw, right, _LABEL, first.height, clips.depth_range)
  return image


def _webp(image, **options) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, "WEBP", quality=QUALITY, method=3, loop=0, **options)
  return buffer.getvalue()


def _source(image: bytes) -> str:
  return f"data:image/webp;base64,{base64.b64encode(image).decode()}"
