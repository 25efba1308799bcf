"""The paper's Figures 1c and 3 over all models of a study."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from forecasting.report import columns as cols
from forecasting.report.correlation import (
  POOLED,
  Correlation,
  complete,
  points,
)
from forecasting.report.figures import (
  MARKERS,
  PALETTE,
  Figure,
  canvas,
  to_figure,
)
from forecasting.report.models import Model, Study

# A model keeps its letter in all panels: readable without colors.
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FACES = {"pretrained": "full", "random": "none", "none": "none"}


def correlation_figure(
  study: Study,
  models: Sequence[Model],
  found: Mapping[str, Correlation],
) -> Figure | None:
  """Draws normalized forecasting against perception, a panel per task.

  Args:
    study: the rows.
    models: drawn ones; those of `found` among them.
    found: r of every task.

  Returns:
    None if no task has enough models.
  """
  tasks = [task for task in cols.order_tasks(study.rows) if task in found]
  if not tasks:
    return None
  letters = dict(zip(models, _LETTERS, strict=False))
  drawn = [*tasks, *([POOLED] if POOLED in found else [])]
  with canvas(len(drawn), 3.2, 3.1, columns=3) as (fig, axes):
    for ax, task in zip(axes, tasks):
      kept = [model for model in models if study.of(model, task)]
      x, y = points(study, kept, task)
      for model, px, py in zip(kept, x, y):
        if not math.isnan(px + py):
          _draw_model(ax, model, letters.get(model, "?"), px, py)
      _fit_line(ax, x, y)
    if POOLED in found:
      _draw_pooled(axes[len(tasks)], study, found[POOLED].models, tasks)
    for ax, name in zip(axes, drawn):
      ax.set_title(f"{name}: {_describe(found[name], short=True)}", fontsize=8)
      ax.set_xlabel("perception, share of the best")
      ax.set_ylabel("best-of-S forecast, share of the best")
    names = ", ".join(f"{letters.get(m, '?')} {m.label}" for m in models)
    text = "; ".join(f"{name} {_describe(found[name])}" for name in drawn)
    return to_figure(
      fig,
      f"Forecasting against perception: {text}.",
      "Best-of-S forecasting against perception, each as its share of the best"
      f" model's (after the paper's Figure 1c). Pearson's r with 95 % bootstrap"
      f" intervals: {text}; r over filled points, the pretrained models; line:"
      f" least squares through all. {names}.",
    )


def _describe(r: Correlation, short: bool = False) -> str:
  """Returns r with its intervals."""
  clips, models = (
    "unknown" if math.isnan(low) else f"[{low:.2f}, {high:.2f}]"
    for low, high in (r.over_clips, r.over_models)
  )
  if short:
    return f"r = {r.value:.2f}\nover clips {clips}, models {models}"
  return f"r = {r.value:.2f}, over clips {clips}, over models {models}"


def _draw_model(ax, model: Model, letter: str, x: float, y: float) -> None:
  """Draws a model's point with its letter."""
  ax.plot(
    x,
    y,
    "o",
    color=PALETTE[0] if model.weights == "pretrained" else "black",
    fillstyle=_FACES[model.weights],
    markersize=6,
  )
  ax.annotate(
    letter, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=8
  )


def _draw_pooled(
  ax, study: Study, models: Sequence[Model], tasks: Sequence[str]
) -> None:
  """Draws the points behind the pooled r, a marker for each task."""
  sides = []
  for number, task in enumerate(tasks):
    kept = complete(study, models, task)
    sides.append(points(study, kept, task))
    ax.plot(
      *sides[-1],
      MARKERS[number % len(MARKERS)],
      color=PALETTE[number % len(PALETTE)],
      markersize=5,
      label=task,
    )
  _fit_line(ax, *(np.concatenate(side) for side in zip(*sides, strict=True)))
  ax.legend(fontsize=7.5, frameon=False)


def per_example_figure(study: Study) -> Figure | None:
  """Draws mean, best and perception of every model, a panel per task."""
  models = study.compared()
  tasks = cols.order_tasks(study.rows)
  if not models:
    return None
  height = 0.9 + 0.24 * len(models)
  with canvas(len(tasks), 3.9, height, columns=2) as (fig, axes):
    for ax, task in zip(axes, tasks):
      places = np.arange(len(models))[::-1]
      for key, marker, label in (
        ("mean", "o", "mean ± std of samples"),
        ("best", "^", "best-of-S"),
        ("perception", "D", "perception"),
      ):
        values = [study.value(model, task, key) for model in models]
        spread = [study.value(model, task, "std") for model in models]
        ax.errorbar(
          values,
          places,
          xerr=spread if key == "mean" else None,
          fmt=marker,
          markersize=5,
          fillstyle="full" if key == "mean" else "none",
          color=PALETTE[("mean", "best", "perception").index(key)],
          label=label,
        )
      metric = next(r["metric"] for r in study.rows if r["task"] == task)
      ax.set_yticks(places, [model.label for model in models], fontsize=7.5)
      ax.set_title(task)
      ax.set_xlabel(cols.METRIC_TITLES.get(metric, metric))
    fig.legend(
      *axes[0].get_legend_handles_labels(),
      loc="outside lower center",
      ncols=3,
      frameon=False,
    )
    text = "; ".join(
      f"{task} {model.label} {study.value(model, task, 'best'):.3g} of"
      f" {study.value(model, task, 'perception'):.3g}"
      for task in tasks
      for model in models
    )
    return to_figure(
      fig,
      f"Best-of-S forecast of perception: {text}.",
      "Mean, best of S samples and perception of every model (after the paper's"
      " Figure 3). Lower is better for depth, higher for the others.",
    )


def _fit_line(ax, x: np.ndarray, y: np.ndarray) -> None:
  """Draws the least-squares line through points."""
  known = ~np.isnan(x + y)
  x, y = x[known], y[known]
  if len(x) < 2 or np.ptp(x) == 0:
    return
  slope, offset = np.polyfit(x, y, 1)
  ends = np.array([x.min(), x.max()])
  ax.plot(ends, slope * ends + offset, "--", color="#57606a", linewidth=1)
