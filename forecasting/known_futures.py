"""Scores against several true futures of each context."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from einops import reduce

from forecasting import scoring, sharing
from forecasting.latents import pipeline
from forecasting.latents.store import LatentStore
from forecasting.metrics import bootstrap, conditional, summary, vectors
from forecasting.metrics.dressing import Dressing
from forecasting.samples.predict import Predictor
from forecasting.shapes import Batch
from forecasting.tasks import TASKS


class KnownFutures:
  """Scores against several true futures of each context."""

  def __init__(
    self,
    store: LatentStore,
    settings: scoring.Settings,
    readout: Predictor | None,
  ):
    """Reads out the true futures once, if there is a readout of them.

    Args:
      store: all futures of a context behind one another.
      settings: of the scoring.
      readout: of true future latents; None: what they score is not told.
    """
    self._store = store
    self._settings = settings
    self._per_context = settings.futures_per_context
    self._readout = self._read_out_truth(readout) if readout else {}

  def score(
    self, predictor: Predictor, dressing: Dressing
  ) -> dict[str, dict[str, Any]]:
    """Returns the `futures` field of a predictor's rows, by task.

    Args:
      predictor: to score.
      dressing: what its forecasts are dressed with; they are also scored so.
    """
    fields = {}
    for task, parts in self._rows(predictor, [0]).items():
      rows = conditional.gather(parts)
      if len(rows.pred) == 0:
        continue
      floor = conditional.true_energy_score(rows)
      fields[task] = {
        "contexts": len(self._store) // self._per_context,
        "futures": self._per_context,
        "rows": len(rows.pred),
        "true_sampler_energy_score": self._mean(floor, rows),
        **self._scores(rows, floor),
        **self._readout.get(task, {}),
      }
      if dressed := self._dressed(dressing, task, parts):
        rows = conditional.gather(dressed)
        fields[task]["dressed"] = self._scores(rows, floor)
    return fields

  @functools.cached_property
  def _example_ids(self) -> list[int]:
    """Identity of each context: that of its first future."""
    return [
      int(self._store.read(first, ("example_id",))["example_id"])
      for first in range(0, len(self._store), self._per_context)
    ]

  def _dressed(
    self, dressing: Dressing, task: str, parts: Sequence[vectors.Vectors]
  ) -> list[vectors.Vectors]:
    """Dresses the same forecasts alike in every part; empty if none can be."""
    ids = self._example_ids
    found = [dressing.dress(task, part, ids) for part in parts]
    # A part without rows has nothing to say, dressed or not.
    if all(dressed is None for dressed in found):
      return []
    return [
      part if dressed is None else dressed
      for dressed, part in zip(found, parts)
    ]

  def _mean(
    self, values: np.ndarray, rows: conditional.Conditional, reason: str = ""
  ) -> dict[str, Any]:
    interval = bootstrap.mean_interval(
      values, rows.example, num_replicates=self._settings.bootstrap
    )
    return summary.entry(interval, reason)

  def _scores(
    self, rows: conditional.Conditional, floor: np.ndarray
  ) -> dict[str, Any]:
    """Returns the scores of forecasts; `floor` is the true sampler's."""
    replicates = self._settings.bootstrap
    reason = _why_void(rows)
    # What is not finite has no score, silently: its reason is told.
    with np.errstate(invalid="ignore"):
      ours = conditional.forecast_energy_score(rows)
    fields = {
      "energy_score": self._mean(ours, rows, reason),
      "relative_energy_score": summary.entry(
        bootstrap.ratio_interval(
          ours, floor, rows.example, num_replicates=replicates
        ),
        reason,
      ),
    }
    if rows.pred.shape[1] > 1:
      with np.errstate(invalid="ignore"):
        spread, error = conditional.spread_skill_terms(rows)
      fields["spread_skill"] = summary.entry(
        bootstrap.ratio_interval(
          spread.sum(axis=1),
          error.sum(axis=1),
          rows.example,
          transform=np.sqrt,
          num_replicates=replicates,
        ),
        reason,
      )
      fields["spread_skill_per_lead"] = summary.ratio_per_lead(spread, error)
    return fields

  def _read_out_truth(self, readout: Predictor) -> dict[str, dict[str, Any]]:
    """Scores what the readouts make of the true futures' latents."""
    fields = {}
    members = range(self._per_context)
    for task, parts in self._rows(readout, members).items():
      rows = conditional.gather(parts)
      if len(rows.pred):
        with np.errstate(invalid="ignore"):
          scores = conditional.resampled_energy_score(rows)
        entry = self._mean(scores, rows, _why_void(rows))
        fields[task] = {"oracle_readout_energy_score": entry}
    return fields

  def _rows(
    self, predictor: Predictor, members: Sequence[int]
  ) -> dict[str, list[vectors.Vectors]]:
    """Task to one part per future: the same forecasts beside that truth.

    Args:
      predictor: the context is the same in all futures; what tells them apart
        is left to predictors that read the future of a batch, as the oracle.
      members: futures that the predictor is given; its forecasts from all of
        them are taken as samples.
    """
    batches = self._batches()

    def work(number: int, device: sharing.Device) -> sharing.Arrays:
      contexts = batches[number]
      outputs = self._predict(predictor, contexts, members, device)
      contexts = list(dict.fromkeys(contexts))
      return self._vectors(contexts, outputs)

    parts = sharing.map_batches(work, len(batches))
    joined = [
      scoring.join([_of_future(part, future) for part in parts])
      for future in range(self._per_context)
    ]
    return {
      task: [by_task[task].rows for by_task in joined] for task in joined[0]
    }

  def _predict(
    self,
    predictor: Predictor,
    contexts: Sequence[int],
    members: Sequence[int],
    device: sharing.Device,
  ) -> dict[str, dict[str, np.ndarray]]:
    """Task to outputs of a batch of contexts, without repeated ones."""
    keys = scoring.tensors(self._settings.tasks, predictor.reads_video)
    kept = len(set(contexts))
    outputs: dict[str, dict[str, list[np.ndarray]]] = {}
    for future in members:
      batch = self._read(contexts, future, keys)
      with device.use():
        found = predictor.predict(self._settings.tasks, batch)
      for task, output in found.items():
        for name, value in output.items():
          parts = outputs.setdefault(task, {}).setdefault(name, [])
          parts.append(value[:kept])
    return {
      task: {name: np.concatenate(v, axis=1) for name, v in output.items()}
      for task, output in outputs.items()
    }

  def _vectors(
    self,
    contexts: Sequence[int],
    outputs: Mapping[str, Mapping[str, np.ndarray]],
  ) -> sharing.Arrays:
    """Returns a batch's forecasts beside every future, as named arrays."""
    arrays = {}
    for future in range(self._per_context):
      scored = {}
      for task, output in outputs.items():
        labels = self._read(contexts, future, TASKS[task].labels)
        rows = TASKS[task].vectors(output, labels, self._settings.num_context)
        scored[task] = scoring.Scored({}, rows)
      for name, value in scoring.pack(scored).items():
        arrays[f"{future}:{name}"] = value
    return arrays

  def _batches(self) -> list[list[int]]:
    """Contexts of every batch; the last repeats its last to keep the size."""
    number = len(self._store) // self._per_context
    size = min(self._settings.batch_size, number)
    return [
      [min(start + i, number - 1) for i in range(size)]
      for start in range(0, number, size)
    ]

  def _read(
    self, contexts: Sequence[int], future: int, keys: Iterable[str]
  ) -> Batch:
    names = pipeline.batch_keys(self._store, keys)
    examples = [
      self._store.read(context * self._per_context + future, names)
      for context in contexts
    ]
    return {name: np.stack([e[name] for e in examples]) for name in names}


def _why_void(rows: conditional.Conditional) -> str:
  finite = reduce(np.isfinite(rows.pred), "R S V -> R S", "all")
  return summary.why_void(finite, summary.ROWS)


def _of_future(arrays: sharing.Arrays, future: int) -> sharing.Arrays:
  """Returns the arrays of one future, without its number in their names."""
  prefix = f"{future}:"
  return {
    name.removeprefix(prefix): value
    for name, value in arrays.items()
    if name.startswith(prefix)
  }
