"""`masked`: one learnt token stands for every latent of the future.

The future slots hold copies of a mask token, context and future attend to each
other alternately within slots and along time, and one pass fills them in. Mean
absolute errors beyond `beta`, squared ones within: like `regression` it answers
with a center of the future, but between its mean and its median.

Source: DINO-Foresight (arXiv 2412.11673), forecaster.md 5.3. Ours: the token is
a latent in the scale of training, and the target that of all forecasters.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from forecasting.forecaster import objective
from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.denoiser import Denoiser
from forecasting.forecaster.diffusion import each_example, init_network
from forecasting.forecaster.transforms import Transform
from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples

_TOKEN_STD = 0.02


def smooth_l1(error: Float[Array, "*B"], beta: float) -> Float[Array, "*B"]:
  """Returns error^2 / (2 beta) within beta, and |error| - beta / 2 beyond."""
  size = jnp.abs(error)
  inside = jnp.square(error) / (2 * beta)
  return jnp.where(size < beta, inside, size - beta / 2)


@dataclasses.dataclass(frozen=True)
class MaskedForecaster:
  """Fills in one future.

  Attributes:
    spec: shape of the latents.
    network: the transformer.
    transform: scales of context and target.
    beta: error at which the loss turns from squared to absolute.
  """

  spec: LatentSpec
  network: Denoiser
  transform: Transform
  beta: float = 0.1
  name: str = dataclasses.field(default="masked", init=False)
  trainable: bool = dataclasses.field(default=True, init=False)
  deterministic: bool = dataclasses.field(default=True, init=False)
  calls: int = dataclasses.field(default=1, init=False)

  def __post_init__(self):
    if not self.beta > 0:
      raise ValueError(
        f"forecaster.masked.beta is {self.beta}: expected a positive number."
      )

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters."""
    token = jax.random.normal(jax.random.fold_in(key, 1), (self.spec.channels,))
    return {
      "network": init_network(self.network, self.spec, key),
      "mask_token": _TOKEN_STD * token,
    }

  def predict(
    self, params: Params, context: Context, times: Float[Array, "B t"]
  ) -> Float[Array, "B tf h w C"]:
    """Returns the answer in the scale of training."""
    spec = self.spec
    shape = (len(context), 1, spec.tf, spec.h, spec.w, spec.channels)
    masked = jnp.broadcast_to(params["mask_token"], shape)
    past = self.transform.context(context)
    level = jnp.ones(shape[:3])
    return self.network.apply(params["network"], past, masked, level, times)[
      :, 0
    ]

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log."""
    del key
    target = self.transform.future(batch["future"], batch["context"])
    error = self.predict(params, batch["context"], batch["times"]) - target
    losses = jnp.mean(smooth_l1(error, self.beta), (1, 2, 3, 4))
    mask = batch.get("mask")
    square = jnp.mean(jnp.square(error), (1, 2, 3, 4))
    aux = {"x0_error": objective.masked_mean(square, mask)}
    return objective.mask_examples(losses, mask), aux

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Returns the one future."""
    del keys, num_samples

    def answer(context: Array, times: Array) -> Array:
      answer = self.predict(params, context, times)[:, None]
      return self.transform.invert_future(answer, context)

    return each_example(answer, context, times)
