"""Training losses, one value per example.

The noise of an example derives from the key of the step and the example's
identity, never from its place in the batch or from the batch's size.

Source: forecaster.md 5.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Key

from forecasting.forecaster import process
from forecasting.forecaster.schedule import Path, shift_times
from forecasting.shapes import Array, Batch, PRNGKey

_MAX_LOGIT = 12.0
# Tells the key of the noise in an example's context from those of its samples.
_CONTEXT_STREAM = 2**24
# Below this noise level an x0 error stops gaining weight in a velocity loss.
WEIGHT_FLOOR = 0.05


def example_keys(batch: Batch, key: PRNGKey) -> Key[Array, "B"]:
  """Returns one key per example, from its identity if the batch has it."""
  ids = batch.get("example_id")
  if ids is None:
    ids = jnp.arange(batch["context"].shape[0])
  return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(ids))


def fold_each(keys: Key[Array, "B"], count: int) -> Key[Array, "B n"]:
  """Returns `count` keys for each key, the first ones whatever the count."""
  fold = jax.vmap(jax.random.fold_in, (None, 0))
  return jax.vmap(fold, (0, None))(keys, jnp.arange(count))


def mask_examples(
  losses: Float[Array, "B"], mask: Bool[Array, "B"] | None
) -> Float[Array, "B"]:
  """Sets the loss of padded examples to zero, whatever they contain."""
  return losses if mask is None else jnp.where(mask, losses, 0.0)


def masked_mean(
  values: Float[Array, "B"], mask: Bool[Array, "B"] | None
) -> Float[Array, ""]:
  """Returns the mean over real examples, zero if there are none."""
  if mask is None:
    return jnp.mean(values)
  total = jnp.sum(jnp.where(mask, values, 0.0))
  return total / jnp.maximum(jnp.sum(mask), 1)


def logit_normal(keys: Key[Array, "*B"], shift: float) -> Float[Array, "*B"]:
  """Draws noise levels: logit-normal(0, 1), then shifted towards noise."""
  normal = jax.random.normal
  for _ in range(keys.ndim):
    normal = jax.vmap(normal)
  logits = jnp.clip(normal(keys), -_MAX_LOGIT, _MAX_LOGIT)
  return shift_times(jax.nn.sigmoid(logits), shift)


def sometimes_even(
  keys: Key[Array, "*B"],
  levels: Float[Array, "*B"],
  share: float,
  t_min: float,
  t_max: float,
) -> Float[Array, "*B"]:
  """Replaces a share of noise levels by ones even in log-SNR, as samplers use.

  Args:
    keys: those that `levels` were drawn with.
    levels: drawn otherwise.
    share: probability of an even one.
    t_min: least level.
    t_max: largest level.
  """

  def draw(key: jax.Array) -> jax.Array:
    # `levels` used the key itself, so this is another stream.
    return jax.random.uniform(jax.random.fold_in(key, 1), (2,))

  for _ in range(keys.ndim):
    draw = jax.vmap(draw)
  uniform = draw(keys)
  low, high = (jnp.log(t / (1 - t)) for t in (t_min, t_max))
  even = jax.nn.sigmoid(low + (high - low) * uniform[..., 0])
  return jnp.where(uniform[..., 1] < share, even, levels)


def noisy_context(
  path: Path,
  context: Float[Array, "B tc h w C"],
  keys: Key[Array, "B n"],
  largest: float,
) -> tuple[Float[Array, "B tc h w C"], Float[Array, "B tc"] | None]:
  """Adds noise of a random level, so that rollouts stay in distribution.

  Args:
    path: noise path.
    context: standardized.
    keys: of the level and of the noise, if there is any.
    largest: level; 0 leaves the context as it is.

  Returns:
    The context and its levels, None where there is no noise.
  """
  if not largest:
    return context, None
  uniform = lambda key: jax.random.uniform(key, maxval=largest)  # noqa: E731
  levels = jax.vmap(uniform)(keys[:, 0])
  return _with_noise(path, context, keys[:, 1], levels)


def noised_to(
  path: Path,
  context: Float[Array, "B tc h w C"],
  keys: Key[Array, "B"],
  level: float,
) -> tuple[Float[Array, "B tc h w C"], Float[Array, "B tc"] | None]:
  """Adds noise of one level to a context that is sampled from.

  Args:
    path: noise path.
    context: standardized.
    keys: one per example.
    level: 0 leaves the context as it is.

  Returns:
    As `noisy_context`.
  """
  if not level:
    return context, None
  keys = jax.vmap(jax.random.fold_in, (0, None))(keys, _CONTEXT_STREAM)
  return _with_noise(path, context, keys, jnp.full(len(keys), level))


def _with_noise(
  path: Path,
  context: Float[Array, "B tc h w C"],
  keys: Key[Array, "B"],
  levels: Float[Array, "B"],
) -> tuple[Float[Array, "B tc h w C"], Float[Array, "B tc"]]:
  """Adds noise of each example's own level to all slots of its context."""
  normal = lambda key: jax.random.normal(key, context.shape[1:])  # noqa: E731
  levels = jnp.broadcast_to(levels[:, None], context.shape[:2])
  return process.corrupt(path, context, jax.vmap(normal)(keys), levels), levels


def check_context_level(level: float, largest: float) -> None:
  """Raises ValueError unless training covered the noise of the context.

  Args:
    level: of sampling.
    largest: of training.
  """
  if not 0 <= level <= largest:
    raise ValueError(
      f"forecaster.horizon.context_level is {level}: expected 0 to"
      f" forecaster.flow.context_noise = {largest}, with which the network is"
      " trained."
    )


def discrete_levels(keys: Key[Array, "*B"], levels: int) -> Float[Array, "*B"]:
  """Draws one of `levels` noise levels, the midpoints of equal cells."""
  draw = lambda key: jax.random.randint(key, (), 0, levels)  # noqa: E731
  for _ in range(keys.ndim):
    draw = jax.vmap(draw)
  return (draw(keys) + 0.5) / levels


def diffusion_loss(
  predict: Callable[[jax.Array, jax.Array], jax.Array],
  path: Path,
  prediction: str,
  loss_space: str,
  x0: Float[Array, "B tf h w C"],
  eps: Float[Array, "B S tf h w C"],
  t: Float[Array, "B S"] | Float[Array, "B S tf"],
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
  """Mean squared error of a prediction, weighed as in another space.

  Args:
    predict: (z [B S tf h w C], levels [B S tf]) -> the network's output.
    path: noise path.
    prediction: what the network predicts, one of `NETWORK_OUTPUTS`.
    loss_space: the space whose squared error is minimized.
    x0: data.
    eps: noise of each draw.
    t: noise level of each draw, or of each slot of each draw.

  Returns:
    The loss and the plain squared x0 error, both averaged over draws and
    latents.
  """
  levels = t
  if t.ndim == 2:
    levels = jnp.broadcast_to(t[..., None], (*t.shape, x0.shape[1]))
  x0 = jnp.broadcast_to(x0[:, None], eps.shape)
  z = process.corrupt(path, x0, eps, levels)
  target = process.target(path, prediction, x0, eps, levels)
  axes = tuple(range(t.ndim, 6))
  squared = jnp.mean(jnp.square(predict(z, levels) - target), axis=axes)
  scale = process.error_scale(path, prediction, loss_space, t, WEIGHT_FLOOR)
  to_x0 = process.error_scale(path, prediction, "x0", t, WEIGHT_FLOOR)
  axes = tuple(range(1, t.ndim))
  return (
    jnp.mean(squared * jnp.square(scale), axis=axes),
    jnp.mean(squared * jnp.square(to_x0), axis=axes),
  )
