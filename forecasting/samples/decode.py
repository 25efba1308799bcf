"""Sampled futures -> frozen readout -> task outputs."""

import jax
import jax.numpy as jnp
from einops import rearrange

from forecasting.readouts import heads
from forecasting.shapes import Batch, Context, Latents, Params, Samples


def decode(
  head: heads.Head,
  params: Params,
  context: Context,
  futures: Samples,
  labels: Batch,
) -> dict[str, jax.Array]:
  """Reads out `[context ; future]` for every sample.

  Args:
    head: readout head of the task.
    params: its trained parameters.
    context: latents of the context frames, encoded alone.
    futures: sampled latents of the future slots.
    labels: of the clips; only the queries of frame 0 are used.

  Returns:
    The head's outputs for all frames, with a sample axis: [B S T ...].
  """

  def one(future: Latents) -> dict[str, jax.Array]:
    latents = jnp.concatenate([context, future], axis=1)
    return heads.read_out(head, params, latents, labels)

  # One sample at a time: the attention weights of a dense head over all
  # samples at once would take gigabytes.
  outputs = jax.lax.map(one, rearrange(futures, "B S ... -> S B ..."))
  return jax.tree.map(lambda x: rearrange(x, "S B ... -> B S ..."), outputs)


def perceive(
  head: heads.Head, params: Params, clip: Latents, labels: Batch
) -> dict[str, jax.Array]:
  """Reads out the latents of observed clips: [B 1 T ...].

  The same readout without any forecast: the perception column.
  """
  outputs = heads.read_out(head, params, clip, labels)
  return jax.tree.map(lambda x: x[:, None], outputs)
