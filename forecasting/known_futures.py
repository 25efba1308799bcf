"""Scores against several true futures of each context."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from forecasting import scoring
from forecasting.latents import pipeline
from forecasting.latents.store import LatentStore
from forecasting.metrics import bootstrap, conditional, summary, vectors
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
      keys = scoring.tensors(self._settings.tasks, predictor.reads_video)
      batch = self._read(contexts, future, keys)
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
    self, contexts: Sequence[int], future: int, keys: Iterable[str]
  ) -> Batch:
    names = pipeline.batch_keys(self._store, keys)
    examples = [
      self._store.read(context * self._per_context + future, names)
      for context in contexts
    ]
    return {name: np.stack([e[name] for e in examples]) for name in names}
