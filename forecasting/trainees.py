"""What a run trains: one readout per task, and the forecasters.

Readouts see the latents of whole observed clips; forecasters see the context
encoded alone and the future slots of the whole clip. Neither sees the other's
loss, so they train side by side on the same batches.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from forecasting.forecaster import base
from forecasting.readouts import heads, losses, patches
from forecasting.samples import draw
from forecasting.shapes import Array, Batch, Latents, Params, PRNGKey
from forecasting.tasks import TASKS
from forecasting.training import steps

# Tells the key of a readout's noise from that of its queries.
_NOISE_STREAM = 2**23


def readout_name(task: str) -> str:
  """Returns the name under which a task's readout is trained and saved."""
  return f"readout-{task}"


def forecaster_name(forecaster: str) -> str:
  """Returns the name under which a forecaster is trained and saved."""
  return f"forecaster-{forecaster}"


def make_head(
  task: str, readout: ConfigDict, data: ConfigDict, grid: tuple[int, int]
) -> heads.Head:
  """Builds the readout head of a task from `config.readout`.

  Args:
    task: its name.
    readout: `config.readout`.
    data: `config.data`.
    grid: rows and columns of latent tokens.
  """
  return heads.make_head(
    task,
    width=readout.width,
    num_heads=readout.heads[task],
    num_frames=data.num_frames,
    frame_size=(data.size, data.size),
    patch=tuple(readout.patch),
    query_hidden=readout.query_hidden,
    positions=readout.positions,
    grid=grid,
    output_scale=readout.output_scale,
    output_mean=readout.output_mean[task],
    anchored=readout.anchored,
  )


def readout_trainee(
  task: str, head: heads.Head, readout: ConfigDict, num_tokens: int, width: int
) -> steps.Trainee:
  """Returns the training of a readout on the latents of observed clips.

  Args:
    task: its name.
    head: of `make_head`.
    readout: `config.readout`.
    num_tokens: latent tokens of one slot.
    width: latent channels.
  """

  def init(key: PRNGKey) -> Params:
    return heads.init_head(head, key, num_tokens, width)

  def loss(params: Params, batch: Batch, key: PRNGKey):
    labels = {name: batch[name] for name in TASKS[task].labels}
    labels["example_id"] = batch["example_id"]
    query_index = None
    if isinstance(head, heads.DenseHead):
      query_index = patches.draw_query_index(
        key, head.num_queries, readout.train_queries
      )
    elif task == "points":
      labels = losses.subset_tracks(labels, key, readout.train_tracks)
    clip = jnp.asarray(batch["clip"])
    if readout.noise:
      clip = _noised(clip, labels["example_id"], key, readout.noise)
    outputs = heads.read_out(head, params, clip, labels, query_index)
    extra = {}
    if query_index is not None:
      extra["patch"] = tuple(readout.patch)
    elif task == "points":
      extra["certain_within"] = readout.certain_within
    return TASKS[task].loss(outputs, labels, batch.get("mask"), **extra)

  return steps.Trainee(
    name=readout_name(task),
    init=init,
    loss=loss,
    optimizer=readout.optimizer,
    steps=readout.steps,
    ema_decay=readout.ema_decay,
  )


def _noised(
  clip: Latents, example_id: Array, key: PRNGKey, deviation: float
) -> jax.Array:
  """Adds normal noise, whose deviation is drawn from |N(0, deviation^2)|."""

  def add(latents: Array, own: PRNGKey) -> jax.Array:
    size, noise = jax.random.split(own)
    size = deviation * jnp.abs(jax.random.normal(size))
    return latents + size * jax.random.normal(noise, latents.shape)

  stream = jax.random.fold_in(key, _NOISE_STREAM)
  return jax.vmap(add)(clip, draw.example_keys(stream, example_id))


def forecaster_trainee(
  forecaster: base.Forecaster,
  settings: ConfigDict,
  num_context_slots: int,
  tubelet: int,
) -> steps.Trainee:
  """Returns the training of a forecaster.

  Args:
    forecaster: of `registry.make_forecaster`.
    settings: `config.forecaster`.
    num_context_slots: latent slots of the context.
    tubelet: frames per latent slot.
  """

  def loss(params: Params, batch: Batch, key: PRNGKey):
    inputs = draw.forecaster_batch(batch, num_context_slots, tubelet)
    inputs["example_id"] = batch["example_id"]
    per_example, scalars = forecaster.loss(params, inputs, key)
    weight = jnp.asarray(inputs["mask"], per_example.dtype)
    mean = (per_example * weight).sum() / jnp.maximum(weight.sum(), 1.0)
    return mean, scalars

  return steps.Trainee(
    name=forecaster_name(forecaster.name),
    init=forecaster.init,
    loss=loss,
    optimizer=settings.optimizer,
    steps=settings.steps,
    ema_decay=settings.ema_decay,
  )
