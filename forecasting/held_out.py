"""Training clips that nothing trains on, and what readouts get wrong on them.

Readouts are surer of the clips that they were trained on than of others. So
the errors that forecasts are dressed with (`metrics/dressing.py`) are of clips
that are neither trained on nor evaluated: the last ones of the training split.
"""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from forecasting import scoring
from forecasting.latents import pipeline
from forecasting.latents.store import LatentStore
from forecasting.metrics.dressing import Dressing, errors_of
from forecasting.samples.predict import Predictor


def split(
  stores: Mapping[str, LatentStore], number: int
) -> dict[str, LatentStore]:
  """Takes the last clips of the training split out of it.

  In a data set of recordings, where the order is theirs, the first of them may
  be windows of the recording that training ends with.

  Args:
    stores: split to latents.
    number: `config.data.held_out_clips`; 0: none.

  Returns:
    The stores, with those clips as `held_out`.

  Raises:
    ValueError: nothing is left to train on.
  """
  if not number:
    return dict(stores)
  train = stores["train"]
  left = len(train) - number
  if left < 1:
    raise ValueError(
      f"data.held_out_clips = {number} leaves none of the {len(train)} training"
      " clips to train on; hold out fewer, or 0"
    )
  return {
    **stores,
    "train": LatentStore(train.path, num_clips=left),
    "held_out": LatentStore(train.path, num_clips=number, first_clip=left),
  }


def dressing(
  config: ConfigDict,
  stores: Mapping[str, LatentStore],
  readout: Predictor,
  settings: scoring.Settings,
) -> Dressing | None:
  """Measures the errors of a run's readouts.

  Args:
    config: of the run.
    stores: of `split`; without clips held out, those of training have to do.
    readout: of the true future latents.
    settings: of the scoring.

  Returns:
    Each task's errors; None if the config asks for none.
  """
  if not config.eval.dressing_clips:
    return None
  store = stores.get("held_out", stores["train"])
  clips = pipeline.evenly_spread(store, config.eval.dressing_clips)
  settings = dataclasses.replace(settings, progress=False)
  scored = scoring.score(readout, store, settings, clips=clips)
  errors = {task: errors_of(result.rows) for task, result in scored.items()}
  return Dressing(errors, config.seed)
