"""Samples of what a trained regression leaves unexplained.

A diffusion model spends most of its capacity on the mean of the future. Here a
regression forecasts that, and the model within only its error. Errors on clips
that a regression was trained on are too small, so there are two regressions,
each trained on the clips whose identity is even or odd, and the error of a clip
is that of the other one. Neither knows the clips of an evaluation: there each
sample is drawn around one of the two, at random.

All three networks train on the same batches. The deviation of the errors per
lead slot and channel is a parameter s, the minimum of log s + r^2 / (2 s^2),
since it shrinks while the regressions learn.

Source: forecaster.md 4, `residual_model`; folds, joint training and the learnt
deviation are our choice.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Key

from forecasting.forecaster import objective
from forecasting.forecaster.base import TrainableForecaster
from forecasting.forecaster.diffusion import each_example
from forecasting.forecaster.regression import RegressionForecaster
from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples

_FOLDS = ("even", "odd")
# Tells the key of a sample's fold from those of its noise.
_FOLD_STREAM = 2**23


@dataclasses.dataclass(frozen=True)
class ResidualForecaster:
  """A forecaster around two regressions.

  Attributes:
    inner: forecasts errors over their deviation: the target of its transform
      is the future as it is given (`Transform.without_target`).
    regression: forecasts latents.
  """

  inner: TrainableForecaster
  regression: RegressionForecaster
  trainable: bool = dataclasses.field(default=True, init=False)
  deterministic: bool = dataclasses.field(default=False, init=False)

  @property
  def name(self) -> str:
    """Its name in configs and result rows."""
    return self.inner.name

  @property
  def calls(self) -> int:
    """Network calls of one sample, without those all samples share."""
    return self.inner.calls

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters."""
    spec = self.regression.spec
    folds = {
      name: self.regression.init(jax.random.fold_in(key, number))
      for number, name in enumerate(_FOLDS, 1)
    }
    return {
      "inner": self.inner.init(key),
      "regressions": folds,
      "log_scale": jnp.zeros((spec.tf, spec.channels)),
    }

  def _means(
    self, params: Params, context: Context, times: Float[Array, "B t"]
  ) -> list[jax.Array]:
    """Returns both regressions' forecasts, in the scale of their training."""
    return [
      self.regression.predict(params["regressions"][name], context, times)
      for name in _FOLDS
    ]

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log.

    It is the sum of those of the forecaster within, of the regression that may
    see the example, and of the errors' deviation; each of the three has
    parameters of its own.
    """
    ids = batch.get("example_id", jnp.arange(len(batch["context"])))
    is_odd = (jnp.asarray(ids) % 2).astype(bool)
    target = self.regression.transform.future(batch["future"], batch["context"])
    even, odd = self._means(params, batch["context"], batch["times"])
    own, other = _choose(is_odd, odd, even), _choose(is_odd, even, odd)
    error = target - jax.lax.stop_gradient(other)
    log_scale = params["log_scale"][:, None, None]
    scaled = error * jnp.exp(-log_scale)
    inner = {**batch, "future": jax.lax.stop_gradient(scaled)}
    losses, aux = self.inner.loss(params["inner"], inner, key)
    axes, mask = (1, 2, 3, 4), batch.get("mask")
    seen = jnp.mean(jnp.square(target - own), axes)
    fit = jnp.mean(log_scale + jnp.square(scaled) / 2, axes)
    aux = aux | {
      "regression_error": objective.masked_mean(seen, mask),
      "unseen_error": objective.masked_mean(
        jnp.mean(jnp.square(error), axes), mask
      ),
    }
    return losses + objective.mask_examples(seen + fit, mask), aux

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures; see `DiffusionForecaster.sample`."""
    errors = self.inner.sample(
      params["inner"], context, times, keys, num_samples
    )
    scale = jnp.exp(params["log_scale"])[:, None, None]

    def around(context: Array, times: Array, keys: Array, errors: Array):
      even, odd = self._means(params, context, times)
      is_odd = self._folds(keys, errors.shape[1])
      mean = _choose(is_odd, odd[:, None], even[:, None])
      target = mean + scale * errors
      return self.regression.transform.invert_future(target, context)

    return each_example(around, context, times, keys, errors)

  def _folds(
    self, keys: Key[Array, "B"], num_samples: int
  ) -> Bool[Array, "B S"]:
    """Returns which samples are drawn around the odd regression."""
    draw = lambda key: jax.random.bernoulli(  # noqa: E731
      jax.random.fold_in(key, _FOLD_STREAM)
    )
    return jax.vmap(jax.vmap(draw))(objective.fold_each(keys, num_samples))


def _choose(is_odd: Array, odd: Array, even: Array) -> jax.Array:
  """Picks by a condition on the leading axes."""
  extra = tuple(range(is_odd.ndim, odd.ndim))
  return jnp.where(jnp.expand_dims(is_odd, extra), odd, even)
