"""`regression`: the paper's deterministic baseline.

The same network and conditioning without noise: every target token starts from
nothing but its position, and the error of one answer is minimized, so the
answer is the conditional mean.

Source: paper, appendix; loss: forecaster.md 5.3.
"""

import dataclasses

import jax.numpy as jnp
import optax
from jaxtyping import Float, Key

from forecasting.forecaster import objective
from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.denoiser import Denoiser
from forecasting.forecaster.diffusion import each_example, init_network
from forecasting.forecaster.transforms import Transform
from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples

LOSSES = ("mse", "smooth_l1")


@dataclasses.dataclass(frozen=True)
class RegressionForecaster:
  """Predicts one future.

  Attributes:
    spec: shape of the latents.
    network: the transformer.
    transform: scales of context and target.
    loss_name: one of LOSSES.
  """

  spec: LatentSpec
  network: Denoiser
  transform: Transform
  loss_name: str = "mse"
  name: str = dataclasses.field(default="regression", init=False)
  trainable: bool = dataclasses.field(default=True, init=False)
  deterministic: bool = dataclasses.field(default=True, init=False)
  calls: int = dataclasses.field(default=1, init=False)

  def __post_init__(self):
    if self.loss_name not in LOSSES:
      raise ValueError(
        f"forecaster.regression.loss is {self.loss_name!r}: one of {LOSSES}."
      )

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters."""
    return init_network(self.network, self.spec, key)

  def predict(
    self, params: Params, context: Context, times: Float[Array, "B t"]
  ) -> Float[Array, "B tf h w C"]:
    """Returns the answer in the scale of training."""
    spec = self.spec
    past = self.transform.context(context)
    nothing = jnp.zeros(
      (context.shape[0], 1, spec.tf, spec.h, spec.w, spec.channels)
    )
    level = jnp.ones(nothing.shape[:3])
    return self.network.apply(params, past, nothing, level, times)[:, 0]

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log."""
    del key
    target = self.transform.future(batch["future"], batch["context"])
    error = self.predict(params, batch["context"], batch["times"]) - target
    if self.loss_name == "mse":
      values = jnp.square(error)
    else:
      values = optax.losses.huber_loss(error)
    axes = (1, 2, 3, 4)
    mask = batch.get("mask")
    aux = {"x0_error": objective.masked_mean(jnp.mean(error**2, axes), mask)}
    return objective.mask_examples(jnp.mean(values, axes), mask), aux

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
