"""Context latents and a seed -> sampled futures.

Every draw is keyed by the example's identity and the sample's number, so that
results depend neither on the batch an example came in nor on how many samples
are drawn.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from einops import reduce
from jaxtyping import Float, Integer, Key

from forecasting.shapes import Array


def example_keys(
  key: Key[jax.Array, ""], example_id: Integer[Array, "B"]
) -> Key[jax.Array, "B"]:
  """Returns one key per example, a function of `key` and its id alone."""
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(
    jnp.asarray(example_id, jnp.uint32)
  )


def slot_seconds(
  seconds: Float[Array, "B T"], tubelet: int
) -> Float[Array, "B t"]:
  """Returns the time of each latent slot, the mean over its frames.

  Times count from the clip's first frame: its place in the video does not
  matter.
  """
  start = seconds[:, :1]
  return reduce(seconds - start, "B (t k) -> B t", "mean", k=tubelet)


def forecaster_batch(
  batch: Mapping[str, Array], num_context_slots: int, tubelet: int
) -> dict[str, Array]:
  """Returns what a forecaster trains on: context, future, times, mask.

  Args:
    batch: of a latent store: `context` (encoded alone), `clip`, `seconds`.
    num_context_slots: latent slots of the context.
    tubelet: frames per latent slot.
  """
  future = batch["clip"][:, num_context_slots:]
  mask = batch.get("mask", jnp.ones(future.shape[0], bool))
  return {
    "context": batch["context"],
    "future": future,
    "times": slot_seconds(batch["seconds"], tubelet),
    "mask": mask,
  }
