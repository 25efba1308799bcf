"""`best_of_many`: one network call a sample, of which the best one learns.

Of M samples of an example the one nearest to what happened is found without
gradients; it alone is drawn again and brought nearer,

  (1)  min_i |X_i - y|.

So M may be large: a step costs M + 1 forward passes and one backward pass, in
the memory of one sample.

That is no proper score. Where a future happens with probability p and one other
with 1 - p, samples are best shared between them as q to 1 - q with

  (2)  q / (1 - q) = (p / (1 - p))^(1 / (M - 1)),

the minimum of p (1 - q)^M + (1 - p) q^M: right for M = 2, and the more even the
more members there are. Whatever can happen is covered, how often it does is
lost.

Source: the training rule of DeltaWorld (arXiv 2604.04913); forecaster.md 5.3.
Its loss is smooth L1 over one token per frame, ours the norm of `energy`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.forecaster import objective
from forecasting.forecaster.denoiser import Cache
from forecasting.forecaster.diffusion import in_chunks
from forecasting.forecaster.one_call import OneCallForecaster, distance
from forecasting.shapes import Array, Batch, Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class BestOfManyForecaster(OneCallForecaster):
  """Its members together cover the futures."""

  name: str = dataclasses.field(default="best_of_many", init=False)

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log."""
    truth = self.transform.future(batch["future"], batch["context"])
    keys = objective.example_keys(batch, key)
    cache = self.encode(params, batch["context"], batch["times"])
    distances = self._distances(
      *jax.lax.stop_gradient((params, cache)), batch["times"], keys, truth
    )
    # Of several that are equally near, the first.
    best = jnp.argmin(distances, axis=1)
    chosen = jax.vmap(jax.random.fold_in)(keys, best)[:, None]
    member = self.draw(params, cache, batch["times"], chosen)[:, 0]
    losses = distance(member, truth, self.norm)
    mask = batch.get("mask")
    error = jnp.mean(jnp.square(member - truth), (1, 2, 3, 4))
    aux = {
      "best_error": objective.masked_mean(error, mask),
      "mean_distance": objective.masked_mean(jnp.mean(distances, 1), mask),
    }
    return objective.mask_examples(losses, mask), aux

  def _distances(
    self,
    params: Params,
    cache: Cache,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    truth: Float[Array, "B tf h w C"],
  ) -> Float[Array, "B M"]:
    """Returns how far each member is from what happened."""
    near = jax.vmap(lambda one: distance(one, truth, self.norm), 1, 1)
    # As few chunks as `chunk` allows, none of them with samples to spare.
    rounds = -(-self.members // self.chunk)
    return in_chunks(
      lambda keys: near(self.draw(params, cache, times, keys)),
      keys,
      self.members,
      -(-self.members // rounds),
    )
