"""The one evaluator: `main` and `eval` both call it.

Every predictor forecasts every clip of the evaluation store; each of its
forecasts is scored per example and, as vectors, as a distribution. Perception
is scored on the same frames.
"""

import dataclasses
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from forecasting.latents import pipeline
from forecasting.latents.store import LatentStore
from forecasting.metrics import bootstrap, conditional, summary, vectors
from forecasting.report.results import Row
from forecasting.samples.panels import Panels
from forecasting.samples.predict import Predictor
from forecasting.shapes import Batch
from forecasting.tasks import TASKS, visible


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


def evaluate(
  predictors: Iterable[Predictor],
  perception: Predictor,
  store: LatentStore,
  settings: Settings,
  *,
  futures: LatentStore | None = None,
  readout_futures: Predictor | None = None,
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
    panels: collects clips for the report.

  Yields:
    The result rows of each predictor as soon as it is done, without the
    fields that say what run they are from.
  """
  seen = perception_scores(perception, store, settings)
  about = {
    "num_context": settings.num_context,
    "frames": f"{settings.num_context}..{settings.num_frames - 1}",
    "eval_list_hash": eval_list_hash(store),
    "skipped": dict(store.manifest.skipped),
  }
  known = None
  if futures is not None:
    known = KnownFutures(futures, settings, readout_futures)
  for predictor in predictors:
    start = time.time()
    scored = score(predictor, store, settings, panels)
    # The oracle knows which future came: it has no forecast of the others.
    conditionals = {}
    if known and predictor.kind != "oracle":
      conditionals = known.score(predictor)
    for task, result in scored.items():
      row = about | _row(predictor, task, result, settings)
      row["scores"] |= seen[task]
      if task in conditionals:
        row["futures"] = conditionals[task]
      row["wall_seconds"] = round(time.time() - start, 2)
      yield row


def eval_list_hash(store: LatentStore) -> str:
  """Returns a digest of the ordered clip ids of a store."""
  digest = hashlib.blake2b(digest_size=8)
  for index in range(len(store)):
    clip_id = np.asarray(store.read(index, ("clip_id",))["clip_id"])
    digest.update(clip_id.tobytes() + b"\n")
  return digest.hexdigest()


def perception_scores(
  perception: Predictor, store: LatentStore, settings: Settings
) -> dict[str, summary.Scores]:
  """Returns each task's metric of the readout on observed clips.

  On the frames that forecasts are scored on, and as `perception_all` on all
  frames but the first, where points and boxes are queried.
  """
  starts = {"perception": settings.num_context, "perception_all": 1}
  values: dict[tuple[str, str], list[np.ndarray]] = {}
  for batch in pipeline.eval_batches(
    store, settings.batch_size, _keys(settings.tasks, False)
  ):
    outputs = perception.predict(settings.tasks, batch)
    kept = int(batch["mask"].sum())
    labels = {name: value[:kept] for name, value in batch.items()}
    for task, output in outputs.items():
      output = {name: value[:kept] for name, value in output.items()}
      for name, start in starts.items():
        scores = TASKS[task].scores(output, labels, start)
        values.setdefault((task, name), []).append(scores[TASKS[task].metric])
  both: dict[str, summary.Scores] = {task: {} for task in settings.tasks}
  for (task, name), parts in values.items():
    both[task][name] = summary.entry(
      bootstrap.mean_interval(
        np.concatenate(parts)[:, 0], num_replicates=settings.bootstrap
      )
    )
  return both


def score(
  predictor: Predictor,
  store: LatentStore,
  settings: Settings,
  panels: Panels | None = None,
) -> dict[str, Scored]:
  """Runs one predictor over a store.

  Args:
    predictor: what is scored.
    store: of the evaluation split.
    settings: of the scoring.
    panels: collects the first clips.

  Returns:
    Task to values per clip and sample, and vectors.
  """
  values: dict[str, list[dict[str, np.ndarray]]] = {}
  rows: dict[str, list[vectors.Vectors]] = {}
  batches = pipeline.eval_batches(
    store, settings.batch_size, _keys(settings.tasks, panels is not None)
  )
  total = -(-len(store) // settings.batch_size)
  bar = tqdm(
    batches,
    total=total,
    desc=f"scoring {predictor.name}",
    disable=not settings.progress,
  )
  for number, batch in enumerate(bar):
    outputs = predictor.predict(settings.tasks, batch)
    kept = int(batch["mask"].sum())
    labels = {name: value[:kept] for name, value in batch.items()}
    for task, output in outputs.items():
      output = {name: value[:kept] for name, value in output.items()}
      start = settings.num_context
      values.setdefault(task, []).append(
        TASKS[task].scores(output, labels, start)
      )
      rows.setdefault(task, []).append(
        TASKS[task].vectors(output, labels, start)
      )
      if panels is not None and number == 0:
        if task == "points":
          output["visible"] = visible(output)
        panels.add(task, predictor.name, labels, output)
  return {
    task: Scored(_concatenate(values[task]), vectors.concatenate(rows[task]))
    for task in values
  }


class KnownFutures:
  """Scores against several true futures of each context."""

  def __init__(
    self, store: LatentStore, settings: Settings, readout: Predictor | None
  ):
    """Reads out the true futures once, if there is a readout of them."""
    self._store = store
    self._settings = settings
    self._per_context = settings.futures_per_context
    self._readout = self._read_out_truth(readout) if readout else {}

  def score(self, predictor: Predictor) -> dict[str, dict[str, Any]]:
    """Returns the `futures` field of a predictor's rows, by task."""
    fields = {}
    outputs = self._predict(predictor)
    for task, parts in outputs.items():
      rows = conditional.gather(self._rows(task, parts))
      if len(rows.pred) == 0:
        continue
      fields[task] = self._fields(rows) | self._readout.get(task, {})
    return fields

  def _fields(self, rows: conditional.Conditional) -> dict[str, Any]:
    replicates = self._settings.bootstrap
    ours = conditional.forecast_energy_score(rows)
    floor = conditional.true_energy_score(rows)

    def mean(values):
      return summary.entry(
        bootstrap.mean_interval(values, rows.example, num_replicates=replicates)
      )

    fields = {
      "contexts": len(self._store) // self._per_context,
      "futures": self._per_context,
      "rows": len(rows.pred),
      "energy_score": mean(ours),
      "true_sampler_energy_score": mean(floor),
      "relative_energy_score": summary.entry(
        bootstrap.ratio_interval(
          ours, floor, rows.example, num_replicates=replicates
        )
      ),
    }
    if rows.pred.shape[1] > 1:
      spread, error = conditional.spread_skill_terms(rows)
      fields["spread_skill"] = summary.entry(
        bootstrap.ratio_interval(
          spread.sum(axis=1),
          error.sum(axis=1),
          rows.example,
          transform=np.sqrt,
          num_replicates=replicates,
        )
      )
      fields["spread_skill_per_lead"] = summary.ratio_per_lead(spread, error)
    return fields

  def _read_out_truth(self, readout: Predictor) -> dict[str, dict[str, Any]]:
    """Scores what the readouts make of the true futures' latents."""
    fields = {}
    parts = {}
    for future in range(self._per_context):
      for task, outputs in self._predict(readout, future).items():
        parts.setdefault(task, []).append(outputs)
    for task, members in parts.items():
      joined = [
        {
          name: np.concatenate([m[batch][name] for m in members], axis=1)
          for name in members[0][batch]
        }
        for batch in range(len(members[0]))
      ]
      rows = conditional.gather(self._rows(task, joined))
      if len(rows.pred):
        value = bootstrap.mean_interval(
          conditional.resampled_energy_score(rows),
          rows.example,
          num_replicates=self._settings.bootstrap,
        )
        fields[task] = {"oracle_readout_energy_score": summary.entry(value)}
    return fields

  def _predict(
    self, predictor: Predictor, future: int = 0
  ) -> dict[str, list[dict[str, np.ndarray]]]:
    """Task to outputs of every batch of contexts.

    The context is the same in all futures; what tells them apart is left to
    predictors that read the future of the batch, as the oracle does.
    """
    parts: dict[str, list[dict[str, np.ndarray]]] = {}
    for contexts in self._batches():
      batch = self._read(contexts, future, None)
      kept = len(set(contexts))
      outputs = predictor.predict(self._settings.tasks, batch)
      for task, output in outputs.items():
        parts.setdefault(task, []).append(
          {name: value[:kept] for name, value in output.items()}
        )
    return parts

  def _rows(
    self, task: str, outputs: Sequence[Mapping[str, np.ndarray]]
  ) -> list[vectors.Vectors]:
    """One part per future: the same forecasts beside that future's truth."""
    parts = []
    for future in range(self._per_context):
      batches = []
      for contexts, output in zip(self._batches(), outputs):
        labels = self._read(
          list(dict.fromkeys(contexts)), future, TASKS[task].labels
        )
        batches.append(
          TASKS[task].vectors(output, labels, self._settings.num_context)
        )
      parts.append(vectors.concatenate(batches))
    return parts

  def _batches(self) -> list[list[int]]:
    """Contexts of every batch; the last repeats its last to keep the size."""
    number = len(self._store) // self._per_context
    size = min(self._settings.batch_size, number)
    return [
      [min(start + i, number - 1) for i in range(size)]
      for start in range(0, number, size)
    ]

  def _read(
    self, contexts: Sequence[int], future: int, keys: Iterable[str] | None
  ) -> Batch:
    if keys is None:
      keys = _keys(self._settings.tasks, False)
    names = pipeline.batch_keys(self._store, keys)
    examples = [
      self._store.read(context * self._per_context + future, names)
      for context in contexts
    ]
    return {name: np.stack([e[name] for e in examples]) for name in names}


def _keys(tasks: Iterable[str], with_video: bool) -> set[str]:
  """Tensors an evaluation reads."""
  keys = {"context", "clip", "seconds"}
  keys |= {"video"} if with_video else set()
  return keys.union(*(TASKS[task].labels for task in tasks))


def _concatenate(
  parts: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _row(
  predictor: Predictor, task: str, result: Scored, settings: Settings
) -> Row:
  spec = TASKS[task]
  values = dict(result.values)
  scores, total = summary.sample_scores(
    values.pop(spec.metric), spec.higher_is_better, settings.bootstrap
  )
  scores |= summary.secondary_scores(values, settings.bootstrap)
  distribution, fields = summary.distribution_scores(
    result.rows, settings.bootstrap, settings.bootstrap_frechet
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
    "num_samples": result.rows.num_samples,
    "scores": scores | distribution,
    **fields,
  }
