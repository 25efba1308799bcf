"""The one evaluator: `main` and `eval` both call it.

Every predictor forecasts every clip of the evaluation store; each of its
forecasts is scored per example and, as vectors, as a distribution. Perception
is scored on the same frames. Several processes share the clips; the first one
puts the rows together.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from forecasting import known_futures, scoring, sharing
from forecasting.frames import windows
from forecasting.latents import pipeline
from forecasting.latents.store import LatentStore
from forecasting.metrics import bootstrap, summary
from forecasting.metrics.dressing import Dressing
from forecasting.report.results import Row
from forecasting.samples.panels import Panels
from forecasting.samples.predict import Predictor
from forecasting.tasks import TASKS


def evaluate(
  predictors: Iterable[Predictor],
  perception: Predictor,
  store: LatentStore,
  settings: scoring.Settings,
  *,
  futures: LatentStore | None = None,
  readout_futures: Predictor | None = None,
  dress: Callable[[Predictor], Dressing] | None = None,
  panels: Panels | None = None,
) -> Iterator[Row]:
  """Scores predictors on all clips of a store.

  Args:
    predictors: what is compared.
    perception: reads out observed clips.
    store: of the evaluation split.
    settings: of the scoring.
    futures: store with several true futures per context, if the data has one.
    readout_futures: reads out the true future latents.
    dress: returns what the forecasts of a predictor are dressed with, if they
      are of several samples; they are also scored so.
    panels: collects clips for the report.

  Yields:
    The result rows of each predictor as soon as it is done, without the
    fields that say what run they are from. All processes have to iterate to
    the end; the others than the first get no rows.
  """
  seen = perception_values(perception, store, settings)
  names = ("clip_id", "example_id")
  clips = [store.read(index, names) for index in range(len(store))]
  ids = [int(clip["example_id"]) for clip in clips]
  about = {
    "num_context": settings.num_context,
    "frames": f"{settings.num_context}..{settings.num_frames - 1}",
    "eval_list_hash": windows.eval_list_hash(c["clip_id"] for c in clips),
    "skipped": dict(store.manifest.skipped),
  }
  known = None
  if futures is not None:
    known = known_futures.KnownFutures(futures, settings, readout_futures)
  for predictor in predictors:
    start = time.time()
    scored = scoring.score(predictor, store, settings, panels)
    dressing = Dressing({}, 0)
    if dress and any(s.rows.num_samples > 1 for s in scored.values()):
      dressing = dress(predictor)
    # The oracle knows which future came: it has no forecast of the others.
    conditionals = {}
    if known and predictor.kind != "oracle":
      conditionals = known.score(predictor, dressing)
    if jax.process_index() > 0:
      continue
    for task, result in scored.items():
      row = about | _row(predictor, task, result, settings)
      row["scores"] |= _perception_scores(seen[task], settings.bootstrap)
      row["clips"]["perception"] = _rounded(seen[task]["perception"].values())
      dressed = dressing.dress(task, result.rows, ids)
      if dressed is not None:
        row["dressed"] = summary.dressed_scores(
          dressed, settings.bootstrap, predictor.members
        )
        if task in dressing.widening:
          row["dressed"]["widening_per_lead"] = _rounded(
            dressing.widening[task]
          )
      if task in conditionals:
        row["futures"] = conditionals[task]
      row["wall_seconds"] = round(time.time() - start, 2)
      yield row


@dataclasses.dataclass(frozen=True)
class Perceived:
  """A task's metric of the readout on observed clips.

  Attributes:
    metric: clip by clip; NaN where there is nothing to score.
    is_finite: whether what was read out is.
  """

  metric: Float[np.ndarray, "B"]
  is_finite: Bool[np.ndarray, "B"]

  def values(self) -> Float[np.ndarray, "B"]:
    """Returns the metric, of no clip if the readout fails on one."""
    return np.where(self.is_finite.all(), self.metric, np.nan)


def perception_values(
  perception: Predictor, store: LatentStore, settings: scoring.Settings
) -> dict[str, dict[str, Perceived]]:
  """Returns each task's metric of the readout on observed clips.

  On the frames that forecasts are scored on, and as `perception_all` on all
  frames but the first, where points and boxes are queried.
  """
  starts = {"perception": settings.num_context, "perception_all": 1}
  batches = pipeline.EvalBatches(
    store, settings.batch_size, scoring.tensors(settings.tasks, False)
  )

  def work(number: int, device: sharing.Device) -> sharing.Arrays:
    batch = batches[number]
    with device.use():
      outputs = perception.predict(settings.tasks, batch)
    kept = int(batch["mask"].sum())
    labels = {name: value[:kept] for name, value in batch.items()}
    values = {}
    for task, output in outputs.items():
      output = {name: value[:kept] for name, value in output.items()}
      for name, start in starts.items():
        scores = TASKS[task].scores(output, labels, start)
        values[f"{task}/{name}/metric"] = scores[TASKS[task].metric][:, 0]
        finite = TASKS[task].is_finite(output, labels, start)
        values[f"{task}/{name}/is_finite"] = finite[:, 0].all(axis=-1)
    return values

  parts = sharing.map_batches(work, len(batches))

  def joined(key: str) -> np.ndarray:
    return np.concatenate([part[key] for part in parts])

  return {
    task: {
      name: Perceived(
        joined(f"{task}/{name}/metric"), joined(f"{task}/{name}/is_finite")
      )
      for name in starts
    }
    for task in settings.tasks
  }


def _perception_scores(
  seen: Mapping[str, Perceived], num_replicates: int
) -> dict[str, dict[str, Any]]:
  return {
    name: summary.entry(
      bootstrap.mean_interval(found.values(), num_replicates=num_replicates),
      summary.why_void(found.is_finite, "readouts of observed clips"),
    )
    for name, found in seen.items()
  }


def _row(
  predictor: Predictor,
  task: str,
  result: scoring.Scored,
  settings: scoring.Settings,
) -> Row:
  spec = TASKS[task]
  values = dict(result.values)
  per_lead = values.pop(scoring.PER_LEAD)
  frames_finite = values.pop(scoring.IS_FINITE)
  is_finite = frames_finite.all(axis=-1)
  scores, total = summary.sample_scores(
    values.pop(spec.metric),
    spec.higher_is_better,
    settings.bootstrap,
    is_finite,
  )
  scores |= summary.secondary_scores(values, settings.bootstrap, is_finite)
  distribution, fields = summary.distribution_scores(
    result.rows,
    settings.bootstrap,
    settings.bootstrap_frechet,
    predictor.members,
  )
  return {
    "task": task,
    "forecaster": predictor.name,
    "kind": predictor.kind,
    "calls_per_sample": predictor.calls,
    "step": predictor.step,
    "metric": spec.metric,
    "unit": spec.unit,
    "higher_is_better": spec.higher_is_better,
    "num_examples": total.num_examples,
    "num_excluded": total.num_excluded,
    "num_nan": total.num_nan,
    "num_nonfinite": total.num_nonfinite,
    "num_samples": result.rows.num_samples,
    "scores": scores | distribution,
    # For paired comparisons of rows that were scored on the same clips.
    "clips": {
      "mean": _rounded(total.example_mean),
      "best": _rounded(total.example_best(spec.higher_is_better)),
    },
    "metric_per_lead": summary.means_per_lead(per_lead, frames_finite),
    **fields,
  }


def _rounded(values: np.ndarray) -> list[float]:
  """Returns values with six digits, enough to compare means of them."""
  return [float(f"{value:.6g}") for value in values]
