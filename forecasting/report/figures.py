"""Line and bar figures as SVG images. Matplotlib is imported when drawing."""

import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forecasting.report import columns as cols
from forecasting.report import tables
from forecasting.report.results import Row

# Okabe and Ito's palette: told apart by color-blind readers.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
_STYLE = {
  "font.family": "sans-serif",
  "font.size": 9,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "grid.color": "#d8dee4",
  "grid.linewidth": 0.6,
  "axes.axisbelow": True,
  "axes.titlesize": 10,
  "svg.hashsalt": "report",
}
_PIXELS_PER_INCH = 96
_IN_PANEL = 9  # lines whose legend fits into a panel


@dataclasses.dataclass(frozen=True)
class Figure:
  """An image with its words.

  Attributes:
    svg: text of the image.
    width: in CSS pixels.
    alt: what it shows, for who cannot see it.
    caption: below it.
  """

  svg: str
  width: int
  alt: str
  caption: str


def calibration(rows: Sequence[Row]) -> list[Figure]:
  """Draws spread-skill by frame and rank histograms, where rows have them."""
  drawn = (
    _spread_skill(rows, "", "the observed future"),
    _spread_skill(rows, "dressed", "the observed future, dressed"),
    _spread_skill(rows, "futures", "several known futures"),
    _ranks(rows),
  )
  return [figure for figure in drawn if figure is not None]


def curves(metrics: Sequence[Mapping[str, Any]], run: str) -> Figure | None:
  """Draws the loss of every trainee against steps.

  Args:
    metrics: rows of `metrics.jsonl`.
    run: its name.

  Returns:
    None if there is no loss to draw.
  """
  series: dict[str, list[tuple[int, float]]] = {}
  for row in metrics:
    loss = row.get("loss")
    if isinstance(loss, int | float) and math.isfinite(loss):
      series.setdefault(row["trainee"], []).append((row["step"], loss))
  if not series:
    return None
  with canvas(len(series), 3.1, 2.2) as (fig, axes):
    for ax, (name, points) in zip(axes, series.items()):
      steps, losses = zip(*points)
      ax.plot(steps, losses, color=PALETTE[0], linewidth=0.8, alpha=0.45)
      ax.plot(steps, _smooth(losses), color=PALETTE[0], linewidth=1.6)
      if min(losses) > 0 and max(losses) > 3 * min(losses):
        _log_scale(ax)
      ax.set_title(f"{name}: {losses[-1]:.3g}")
      ax.set_xlabel("step")
      ax.set_ylabel("loss")
    ends = "; ".join(
      f"{name} {points[0][1]:.3g} to {points[-1][1]:.3g}"
      for name, points in series.items()
    )
    return to_figure(
      fig,
      f"Training loss from first to last logged step: {ends}.",
      f"Training loss of {run}: every logged step (thin) and its running mean "
      "(thick), the last value in the title; logarithmic where the loss fell "
      "by more than a factor of 3.",
    )


def by_frame(
  rows: Sequence[Row],
  field: str,
  ylabel: str | None,
  caption: str,
  *,
  ends: Mapping[str, float] | None = None,
) -> Figure | None:
  """Draws a number of every forecast frame, one line per forecaster.

  Args:
    rows: of any tasks.
    field: of a row, a list with one number per frame.
    ylabel: of the axis; None is the task's metric.
    caption: below the figure.
    ends: of each task, where a dotted line is drawn.

  Returns:
    None if no row has the field.
  """
  return _lines(
    rows, lambda row: row.get(field), ylabel, caption, caption, ends or {}
  )


def _spread_skill(
  rows: Sequence[Row], part: str, against: str
) -> Figure | None:
  """Spread-skill by frame, of rows or a part of them that has its own."""

  def values(row: Row):
    source = (row.get(part) or {}) if part else row
    return source.get("spread_skill_per_lead")

  return _lines(
    rows,
    values,
    "spread / skill",
    f"Spread-skill ratio of every forecast frame, against {against}. "
    "Black line: 1, calibrated.",
    f"Spread-skill ratio against {against}.",
    {},
    is_ratio=True,
  )


def _lines(
  rows: Sequence[Row],
  read: Callable[[Row], Sequence[float | None] | None],
  ylabel: str | None,
  caption: str,
  alt: str,
  ends: Mapping[str, float],
  is_ratio: bool = False,
) -> Figure | None:
  """Lines over frames, a panel per task; a ratio has a line at 1."""
  by_task: dict[str, list[tuple[str, Row]]] = {}
  for task in cols.order_tasks(rows):
    chosen = cols.order_rows(row for row in rows if row["task"] == task)
    labelled = zip(tables.row_labels(chosen), chosen)
    lines = [(label, row) for label, row in labelled if read(row)]
    if lines:
      by_task[task] = lines
  if not by_task:
    return None
  names = list(
    dict.fromkeys(name for lines in by_task.values() for name, _ in lines)
  )
  columns = min(len(by_task), 4)
  # More than fit into a panel are told below all of them.
  is_below = len(names) > _IN_PANEL
  abreast = int(3.1 * columns / (0.05 * max(map(len, names)) + 0.4)) or 1
  height = 2.4 + is_below * 0.15 * math.ceil(len(names) / abreast)
  with canvas(len(by_task), 3.1, height, columns=columns) as (fig, axes):
    for ax, (task, lines) in zip(axes, by_task.items()):
      for name, row in lines:
        _line(ax, names.index(name), name, row, read(row))
      if is_ratio:
        ax.axhline(1, color="black", linewidth=1)
        ax.set_ylim(0, max(1.2, ax.get_ylim()[1]))
      if task in ends:
        ax.axvline(ends[task], color="black", linestyle=":", linewidth=1)
      _whole_ticks(ax)
      ax.set_title(task)
      ax.set_xlabel("frame")
      metric = lines[0][1]["metric"]
      ax.set_ylabel(ylabel or cols.METRIC_TITLES.get(metric, metric))
      if not is_below:
        ax.legend(fontsize=7.5 if len(lines) < 4 else 6, frameon=False)
    if is_below:
      _legend_below(fig, axes, abreast)
    told = "; ".join(
      f"{task} {name} {_ends(read(row))}"
      for task, lines in by_task.items()
      for name, row in lines
    )
    return to_figure(fig, f"{alt} First to last frame: {told}", caption)


def _legend_below(fig, axes, columns: int) -> None:
  """Draws one legend of the lines in all panels."""
  handles = {}
  for ax in axes:
    found, labels = ax.get_legend_handles_labels()
    handles |= dict(zip(labels, found))
  fig.legend(
    handles.values(),
    handles.keys(),
    loc="outside lower center",
    ncols=columns,
    fontsize=6.5,
    frameon=False,
  )


def _line(ax, number: int, name: str, row: Row, values) -> None:
  """One forecaster's line; `number` chooses how it looks."""
  first = int(str(row.get("frames", "4..")).split("..")[0])
  # More forecasters than colors: the dashes of the next round are others.
  turn = number + number // len(PALETTE)
  ax.plot(
    range(first, first + len(values)),
    [math.nan if value is None else value for value in values],
    color=PALETTE[number % len(PALETTE)],
    linestyle=_DASHES[turn % len(_DASHES)],
    marker=MARKERS[turn % len(MARKERS)],
    markersize=3.5,
    label=name,
  )


def _ranks(rows: Sequence[Row]) -> Figure | None:
  """Rank histograms: one row of panels per forecaster, a column per task."""
  tasks = cols.order_tasks(row for row in rows if row.get("rank_histogram"))
  bars: dict[str, dict[str, list[float]]] = {}
  for task in tasks:
    chosen = cols.order_rows(row for row in rows if row["task"] == task)
    for label, row in zip(tables.row_labels(chosen), chosen):
      counts = [value or 0.0 for value in row.get("rank_histogram") or ()]
      if sum(counts) > 0:
        shares = [count / sum(counts) for count in counts]
        bars.setdefault(label, {})[task] = shares
  if not bars:
    return None
  panels = [(name, task) for name in bars for task in tasks]
  with canvas(len(panels), 2.7, 1.7, columns=len(tasks)) as (fig, axes):
    for ax, (name, task) in zip(axes, panels):
      shares = bars[name].get(task)
      if shares is None:
        ax.axis("off")
        continue
      number = list(bars).index(name)
      ax.bar(range(len(shares)), shares, color=PALETTE[number % len(PALETTE)])
      ax.axhline(1 / len(shares), color="black", linestyle="--", linewidth=1)
      ax.set_title(f"{name}: {task}", fontsize=8.5)
      _whole_ticks(ax)
      ax.set_xlabel("rank of the truth")
      ax.set_ylabel("share")
    outer = "; ".join(
      f"{name} {task}: outermost ranks {(shares[0] + shares[-1]):.0%}, flat "
      f"would be {2 / len(shares):.0%}"
      for name, by_task in bars.items()
      for task, shares in by_task.items()
    )
    return to_figure(
      fig,
      f"Rank histograms. {outer}.",
      "How often the observed value has each rank among the samples; dashed: "
      "flat, as if calibrated.",
    )


class canvas:
  """A grid of axes without a window, in our style, closed at the end."""

  def __init__(self, number: int, width: float, height: float, columns=4):
    """Sets the number of axes, the inches of each, and how many in a row."""
    self._columns = min(number, columns)
    self._rows = -(-number // self._columns)
    self._number = number
    self._size = (width * self._columns, height * self._rows)

  def __enter__(self):
    import matplotlib
    from matplotlib.backends import backend_agg
    from matplotlib.figure import Figure as Canvas

    self._style = matplotlib.rc_context(_STYLE)
    self._style.__enter__()
    fig = Canvas(figsize=self._size, layout="constrained")
    backend_agg.FigureCanvasAgg(fig)
    axes = fig.subplots(self._rows, self._columns, squeeze=False).ravel()
    for ax in axes[self._number :]:
      ax.axis("off")
    return fig, axes

  def __exit__(self, *error):
    self._style.__exit__(*error)


def _whole_ticks(ax) -> None:
  """Frames and ranks are whole numbers."""
  from matplotlib.ticker import MaxNLocator

  ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _log_scale(ax) -> None:
  """Logarithmic, labelled 0.1, 0.2, 0.5 rather than by powers."""
  from matplotlib import ticker

  ax.set_yscale("log")
  ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  ax.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
  ax.yaxis.set_minor_locator(ticker.NullLocator())


def to_figure(fig, alt: str, caption: str) -> Figure:
  """Returns what was drawn as an SVG image with its words."""
  buffer = io.StringIO()
  # No date: the same rows give the same page.
  fig.savefig(buffer, format="svg", metadata={"Date": None})
  width = round(fig.get_figwidth() * _PIXELS_PER_INCH)
  return Figure(buffer.getvalue(), width, alt, caption)


def _smooth(values: Sequence[float]) -> list[float]:
  """Running mean over a twentieth of the values."""
  half = len(values) // 40
  windows = (
    values[max(0, i - half) : i + half + 1] for i in range(len(values))
  )
  return [sum(window) / len(window) for window in windows]


def _ends(values: Sequence[float | None]) -> str:
  known = [value for value in values if value is not None]
  return f"{known[0]:.3g} to {known[-1]:.3g}" if known else "undefined"
