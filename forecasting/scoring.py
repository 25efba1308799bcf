"""One predictor over a store: values per clip and sample, and vectors."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from forecasting import sharing
from forecasting.latents import pipeline
from forecasting.latents.store import LatentStore
from forecasting.metrics import vectors
from forecasting.samples.panels import Panels
from forecasting.samples.predict import Outputs, Predictor
from forecasting.shapes import Batch
from forecasting.tasks import TASKS, scores_per_lead, visible

# Among the values of a `Scored`: the headline metric of every frame ahead, and
# whether what was scored of the forecast of that frame is finite.
PER_LEAD = "per_lead"
IS_FINITE = "is_finite"


@dataclasses.dataclass(frozen=True)
class Settings:
  """How forecasts are scored.

  Attributes:
    tasks: their names.
    num_context: observed frames; scoring starts after them.
    num_frames: of a clip.
    batch_size: clips at a time; results do not depend on it.
    bootstrap: replicates of intervals.
    bootstrap_frechet: replicates of intervals of Fréchet distances.
    futures_per_context: of the futures store; 0 if there is none.
    progress: whether to show a progress bar.
  """

  tasks: tuple[str, ...]
  num_context: int
  num_frames: int
  batch_size: int
  bootstrap: int
  bootstrap_frechet: int
  futures_per_context: int = 0
  progress: bool = True


@dataclasses.dataclass
class Scored:
  """What one predictor scored on one task, clip by clip."""

  values: dict[str, np.ndarray]
  rows: vectors.Vectors


def score(
  predictor: Predictor,
  store: LatentStore,
  settings: Settings,
  panels: Panels | None = None,
  clips: Sequence[int] | None = None,
  only_rows: bool = False,
) -> dict[str, Scored]:
  """Runs one predictor over a store, shared by all processes.

  Args:
    predictor: what is scored.
    store: of the evaluation split.
    settings: of the scoring.
    panels: collects the first clips of those that the first process scores.
    clips: places of those to score; None is all.
    only_rows: leave out the values per clip, which take longer.

  Returns:
    Task to values per clip and sample, and vectors.
  """
  if jax.process_index() > 0:
    panels = None
  with_video = panels is not None or predictor.reads_video
  batches = pipeline.EvalBatches(
    store, settings.batch_size, tensors(settings.tasks, with_video), clips
  )

  def work(number: int, device: sharing.Device) -> sharing.Arrays:
    batch = batches[number]
    with device.use():
      outputs = predictor.predict(settings.tasks, batch)
    labels, outputs = _without_filling(batch, outputs)
    # The first process takes every so many batches, which are full but the
    # last.
    first = number // jax.process_count() * settings.batch_size
    if panels is not None and panels.wants(first):
      for task, output in outputs.items():
        shown = output
        if task == "points":
          shown = output | {"visible": visible(output)}
        panels.add(task, predictor.name, labels, shown, first)
    return pack(_score_batch(labels, outputs, settings, only_rows))

  title = f"scoring {predictor.name}" if settings.progress else None
  return join(sharing.map_batches(work, len(batches), title))


def pack(scored: Mapping[str, Scored]) -> sharing.Arrays:
  """Returns what was scored as named arrays; see `join`."""
  arrays = {}
  for task, result in scored.items():
    for name, values in result.values.items():
      arrays[f"{task}/values/{name}"] = values
    for field in dataclasses.fields(result.rows):
      value = np.asarray(getattr(result.rows, field.name))
      arrays[f"{task}/rows/{field.name}"] = value
  return arrays


def join(parts: Sequence[sharing.Arrays]) -> dict[str, Scored]:
  """Returns what was scored of consecutive batches of clips, by task.

  Args:
    parts: of `pack`, one per batch.
  """
  found: dict[str, list[Scored]] = {}
  for arrays in parts:
    fields: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for key, array in arrays.items():
      task, kind, name = key.split("/")
      values, rows = fields.setdefault(task, ({}, {}))
      if kind == "values":
        values[name] = array
      else:
        rows[name] = array if array.ndim else int(array)
    for task, (values, rows) in fields.items():
      scored = Scored(values, vectors.Vectors(**rows))
      found.setdefault(task, []).append(scored)
  return {
    task: Scored(
      _concatenate([part.values for part in scored]),
      vectors.concatenate([part.rows for part in scored]),
    )
    for task, scored in found.items()
  }


def _without_filling(
  batch: Batch, outputs: Mapping[str, Outputs]
) -> tuple[Batch, dict[str, Outputs]]:
  """Leaves out the clips that only fill a batch."""
  kept = int(batch["mask"].sum())
  labels = {key: value[:kept] for key, value in batch.items()}
  return labels, {
    task: {key: value[:kept] for key, value in output.items()}
    for task, output in outputs.items()
  }


def _score_batch(
  labels: Batch,
  outputs: Mapping[str, Outputs],
  settings: Settings,
  only_rows: bool,
) -> dict[str, Scored]:
  """Scores the forecasts of one batch."""
  start = settings.num_context
  scored = {}
  for task, output in outputs.items():
    spec = TASKS[task]
    values = {}
    if not only_rows:
      values = spec.scores(output, labels, start) | {
        PER_LEAD: scores_per_lead(spec, output, labels, start),
        IS_FINITE: spec.is_finite(output, labels, start),
      }
    scored[task] = Scored(values, spec.vectors(output, labels, start))
  return scored


def tensors(tasks: Iterable[str], with_video: bool) -> set[str]:
  """Returns the names of what an evaluation reads of a store."""
  keys = {"context", "clip", "seconds"}
  keys |= {"video"} if with_video else set()
  return keys.union(*(TASKS[task].labels for task in tasks))


def _concatenate(
  parts: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
