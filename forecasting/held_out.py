"""Training clips that nothing trains on, and what is got wrong on them.

Readouts and forecasters are surer of the clips that they were trained on than
of others. So what forecasts are dressed with (`metrics/dressing.py`) is fitted
on clips that are neither trained on nor evaluated: the last ones of the
training split.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from forecasting import scoring
from forecasting.latents import pipeline
from forecasting.latents.store import LatentStore
from forecasting.metrics.dressing import Dressing, errors_of
from forecasting.metrics.vectors import Vectors
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
    ValueError: less is left to train on than is held out.
  """
  if not number:
    return dict(stores)
  train = stores["train"]
  left = len(train) - number
  if left < number:
    raise ValueError(
      f"data.held_out_clips = {number} of {len(train)} training clips leave"
      f" {max(left, 0)} to train on, fewer than are held out; hold out fewer,"
      " or 0"
    )
  return {
    **stores,
    "train": LatentStore(train.path, num_clips=left),
    "held_out": LatentStore(train.path, num_clips=number, first_clip=left),
  }


def dresser(
  config: ConfigDict,
  stores: Mapping[str, LatentStore],
  readout: Predictor,
  settings: scoring.Settings,
) -> Callable[[Predictor], Dressing] | None:
  """Returns what measures the errors of a run, when they are first asked for.

  Args:
    config: of the run.
    stores: of `split`; without clips held out, the readouts' errors on those of
      training have to do, and the spread of forecasts is left as it is.
    readout: of the true future latents.
    settings: of the scoring.

  Returns:
    Predictor to what its forecasts are dressed with; every process has to call
    it. None if the config asks for nothing.
  """
  if not config.eval.dressing_clips:
    return None
  settings = dataclasses.replace(settings, progress=False)
  store = stores.get("held_out", stores["train"])

  def rows(predictor: Predictor, number: int) -> dict[str, Vectors]:
    clips = pipeline.evenly_spread(store, number)
    scored = scoring.score(
      predictor, store, settings, clips=clips, only_rows=True
    )
    return {task: result.rows for task, result in scored.items()}

  @functools.cache
  def plain() -> Dressing:
    read = rows(readout, config.eval.dressing_clips)
    errors = {task: errors_of(found) for task, found in read.items()}
    return Dressing(errors, config.seed)

  def dress(predictor: Predictor) -> Dressing:
    if "held_out" not in stores or not config.eval.spread_clips:
      return plain()
    return plain().fitted(rows(predictor, config.eval.spread_clips))

  return dress
