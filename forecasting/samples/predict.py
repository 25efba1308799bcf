"""Predictors: everything that gives each clip S forecasts of a task's outputs.

Trained forecasters, latent baselines and the oracle go through the frozen
readouts; output baselines and perception do not draw futures at all. The
evaluator treats them alike.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from forecasting.backbones.encode import Backbone
from forecasting.backbones.walt_native import native_samples
from forecasting.forecaster import base
from forecasting.latents.encoding import preprocess
from forecasting.readouts import heads
from forecasting.samples import decode, draw
from forecasting.shapes import Batch, Params, PRNGKey, Samples

Outputs = dict[str, np.ndarray]
Sampling = Callable[[Params, Batch], Samples]

# Of the module, so that predictors of equal shapes share what is compiled.
_decode = jax.jit(decode.decode, static_argnums=(0, 5))
_perceive = jax.jit(decode.perceive, static_argnums=(0, 4))


@dataclasses.dataclass(frozen=True)
class Readout:
  """A trained readout.

  Attributes:
    head: its module.
    params: its parameters.
    labels: keys of a batch it takes its queries from.
    window: what it sees of longer clips; None: whole clips.
  """

  head: heads.Head
  params: Params
  labels: tuple[str, ...]
  window: decode.Window | None = None

  def select(self, batch: Batch) -> dict[str, Any]:
    """Returns the labels that hold the queries, and no others."""
    queries = {"tracks", "boxes"} & set(self.labels)
    return {name: jnp.asarray(batch[name]) for name in queries}


@dataclasses.dataclass(frozen=True)
class Predictor:
  """A named source of forecasts.

  Attributes:
    name: as in result rows.
    kind: 'trained', 'baseline' or 'oracle'.
    calls: network calls per sample.
    predict: (task names, batch) -> task -> outputs [B S T ...] on the host;
      a task it has no forecast for is left out.
    step: training steps of its parameters; None if it has none.
    reads_video: whether batches must hold the frames.
    members: trainings whose samples are pooled: sample s is of s mod members.
  """

  name: str
  kind: str
  calls: int
  predict: Callable[[Iterable[str], Batch], dict[str, Outputs]]
  step: int | None = None
  reads_video: bool = False
  members: int = 1


def latent_sampling(
  forecaster: base.Forecaster,
  *,
  key: PRNGKey,
  num_samples: int,
  num_context_slots: int,
  tubelet: int,
) -> Sampling:
  """Returns (parameters, batch of latents) -> futures [B S t h w c].

  Args:
    forecaster: trained or not.
    key: root of all draws.
    num_samples: S; a deterministic forecaster gives one all the same.
    num_context_slots: latent slots of the context.
    tubelet: frames per latent slot.
  """

  def sample(params: Params, batch: Batch) -> Samples:
    inputs = draw.forecaster_batch(batch, num_context_slots, tubelet)
    keys = draw.example_keys(key, batch["example_id"])
    return forecaster.sample(
      params, inputs["context"], inputs["times"], keys, num_samples
    )

  return sample


def native_sampling(
  backbone: Backbone, *, key: PRNGKey, num_samples: int, num_context: int
) -> Sampling:
  """Returns (parameters, batch of frames) -> futures [B S t h w c].

  Args:
    backbone: of the W.A.L.T. family.
    key: root of all draws.
    num_samples: S.
    num_context: observed frames; no later frame is read.
  """

  def sample(params: Params, batch: Batch) -> Samples:
    video = batch["video"][:, :num_context]
    frames = preprocess(video, backbone.spec.resolution)
    keys = draw.example_keys(key, batch["example_id"])
    return native_samples(backbone, params, frames, keys, num_samples)

  return sample


def latent_predictor(
  forecaster: base.Forecaster,
  params: Params,
  readouts: Mapping[str, Readout],
  *,
  key: PRNGKey,
  num_samples: int,
  num_context_slots: int,
  tubelet: int,
  calls: int,
  step: int | None = None,
  members: int = 1,
) -> Predictor:
  """Returns the predictor that draws latents and decodes them.

  Args:
    forecaster: trained or not.
    params: its parameters.
    readouts: task to trained readout.
    key: root of all draws.
    num_samples: S; a deterministic forecaster gives one all the same.
    num_context_slots: latent slots of the context.
    tubelet: frames per latent slot.
    calls: network calls per sample.
    step: training steps of the parameters.
    members: trainings whose samples are pooled, as in `DeepEnsemble`.
  """

  sample = jax.jit(
    latent_sampling(
      forecaster,
      key=key,
      num_samples=num_samples,
      num_context_slots=num_context_slots,
      tubelet=tubelet,
    )
  )

  def futures(batch: Batch):
    wanted = ("context", "clip", "seconds", "example_id")
    return sample(params, {name: batch[name] for name in wanted})

  kind = "trained" if forecaster.trainable else "baseline"
  predict = _decoded(readouts, futures)
  return Predictor(forecaster.name, kind, calls, predict, step, members=members)


def native_predictor(
  backbone: Backbone,
  readouts: Mapping[str, Readout],
  *,
  key: PRNGKey,
  num_samples: int,
  num_context: int,
) -> Predictor:
  """Returns the predictor of a backbone that forecasts by itself (N-W.A.L.T.).

  Args:
    backbone: of the W.A.L.T. family.
    readouts: task to readout, trained on the backbone's latents.
    key: root of all draws.
    num_samples: S.
    num_context: observed frames; no later frame is read.
  """

  sample = jax.jit(
    native_sampling(
      backbone, key=key, num_samples=num_samples, num_context=num_context
    )
  )

  def futures(batch: Batch):
    wanted = ("video", "example_id")
    return sample(backbone.params, {name: batch[name] for name in wanted})

  predict = _decoded(readouts, futures)
  return Predictor("native", "trained", 1, predict, reads_video=True)


def oracle_predictor(
  readouts: Mapping[str, Readout], num_context_slots: int
) -> Predictor:
  """Returns the predictor that decodes `[context ; true future]`.

  Its distance from perception is the seam gap: what is lost because the
  readout, trained on whole clips, reads a context encoded alone. It bounds
  what any forecaster can reach.
  """

  def futures(batch: Batch):
    return jnp.asarray(batch["clip"])[:, None, num_context_slots:]

  predict = _decoded(readouts, futures)
  return Predictor("oracle_future", "oracle", 0, predict)


def perception_predictor(readouts: Mapping[str, Readout]) -> Predictor:
  """Returns the predictor that reads out observed clips: no forecast."""

  def predict(tasks: Iterable[str], batch: Batch) -> dict[str, Outputs]:
    return {
      task: jax.device_get(
        _perceive(
          readouts[task].head,
          readouts[task].params,
          jnp.asarray(batch["clip"]),
          readouts[task].select(batch),
          readouts[task].window,
        )
      )
      for task in tasks
    }

  return Predictor("perception", "oracle", 0, predict)


def output_predictor(
  name: str,
  baseline: Callable[[str, Batch, int], Mapping[str, Any] | None],
  num_context: int,
) -> Predictor:
  """Returns the predictor of a baseline that works on observed outputs.

  Args:
    name: of the baseline.
    baseline: (task, labels, num_context) -> outputs [B T ...] or None.
    num_context: observed frames; the baseline reads no later label.
  """

  def predict(tasks: Iterable[str], batch: Batch) -> dict[str, Outputs]:
    outputs = {task: baseline(task, batch, num_context) for task in tasks}
    return {
      task: {k: np.asarray(v)[:, None] for k, v in output.items()}
      for task, output in outputs.items()
      if output is not None
    }

  return Predictor(name, "baseline", 0, predict)


def _decoded(
  readouts: Mapping[str, Readout], futures: Callable[[Batch], jax.Array]
) -> Callable[[Iterable[str], Batch], dict[str, Outputs]]:
  def predict(tasks: Iterable[str], batch: Batch) -> dict[str, Outputs]:
    drawn = futures(batch)
    context = jnp.asarray(batch["context"])
    return {
      task: jax.device_get(
        _decode(
          readouts[task].head,
          readouts[task].params,
          context,
          drawn,
          readouts[task].select(batch),
          readouts[task].window,
        )
      )
      for task in tasks
    }

  return predict
