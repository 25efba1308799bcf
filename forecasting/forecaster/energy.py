"""`energy`: one network call a sample, trained with the fair energy score.

Trained are M samples of each example at a time,

  (1)  mean_i |X_i - y| - sum_{i != j} |X_i - X_j| / (2 M (M - 1)),

which for any M >= 2 is unbiased for the score of the distribution they come
from and smallest where that is the true one. The norm runs over channels, or
over more (`one_call.NORMS`), and the rest is averaged: a single norm over all
latents hardly sees how they depend on each other.

Source: forecaster.md 5.3.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Float

from forecasting.forecaster import objective
from forecasting.forecaster.one_call import OneCallForecaster, distance
from forecasting.shapes import Array, Batch, Params, PRNGKey


def fair_energy_score(
  members: Float[Array, "B S tf h w C"],
  truth: Float[Array, "B tf h w C"],
  norm: str = "token",
) -> Float[Array, "B"]:
  """Returns equation (1) of each example.

  Args:
    members: at least two samples.
    truth: what happened.
    norm: one of `one_call.NORMS`.
  """
  count = members.shape[1]
  error = sum(distance(members[:, i], truth, norm) for i in range(count))
  apart = sum(
    distance(members[:, i], members[:, j], norm)
    for i in range(count)
    for j in range(i)
  )
  return error / count - apart / (count * (count - 1))


@dataclasses.dataclass(frozen=True)
class EnergyForecaster(OneCallForecaster):
  """Its members together follow the distribution of futures."""

  name: str = dataclasses.field(default="energy", init=False)

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log."""
    truth = self.transform.future(batch["future"], batch["context"])
    keys = objective.fold_each(objective.example_keys(batch, key), self.members)
    cache = self.encode(params, batch["context"], batch["times"])
    members = self.draw(params, cache, batch["times"], keys)
    losses = fair_energy_score(members, truth, self.norm)
    mask = batch.get("mask")
    error = jnp.square(jnp.mean(members, 1) - truth)
    spread = jnp.var(members, axis=1, ddof=1)
    aux = {
      "mean_error": objective.masked_mean(jnp.mean(error, (1, 2, 3, 4)), mask),
      "variance": objective.masked_mean(jnp.mean(spread, (1, 2, 3, 4)), mask),
    }
    return objective.mask_examples(losses, mask), aux
