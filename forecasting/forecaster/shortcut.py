"""`shortcut`: denoising in few steps, learnt as one network.

The network predicts x from z_t and from how far the step will go, and a step
from level a to level b < a is that of DDIM whatever its length,

  (1)  z_b = (b / a) z_a + (1 - b / a) x.

For a step of no length x is the conditional mean, learnt as in `flow`. Longer
ones learn to agree with two of half their length: applying (1) from a over b
to c with predictions x_1 and x_2 equals one step from a to c with

  (2)  x = ((c/b - c/a) x_1 + (1 - c/b) x_2) / (1 - c/a),

an average of the two, so nothing is divided by a small noise level. Levels are
those of a grid that is uniform in log-SNR, with 2^m steps; lengths are powers
of two, and a single step leads from noise to data.

Source: Frans et al. 2024 (arXiv 2410.12557). Ours: the grid, on which few steps
keep the spread (forecaster.md 6.1), and x-prediction; targets come from the
parameters in training instead of their average.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from forecasting.forecaster import objective, process, sampler
from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.denoiser import Cache, Denoiser
from forecasting.forecaster.diffusion import (
  each_example,
  in_chunks,
  init_network,
)
from forecasting.forecaster.schedule import LINEAR
from forecasting.forecaster.transforms import Transform
from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples


def num_lengths(finest: int) -> int:
  """Returns how many step lengths there are: none, 2, 4, ... `finest`.

  Raises:
    ValueError: if `finest` is not a power of two above 1.
  """
  if finest < 2 or finest & (finest - 1):
    raise ValueError(
      f"forecaster.shortcut.finest is {finest}: expected a power of two, at"
      " least 2."
    )
  return finest.bit_length()


def check_steps(steps: int, finest: int) -> None:
  """Raises ValueError unless `steps` is a power of two up to `finest`."""
  if not 1 <= steps <= finest or steps & (steps - 1):
    raise ValueError(
      f"forecaster.shortcut.steps is {steps}: expected a power of two up to"
      f" forecaster.shortcut.finest = {finest}."
    )


def combine(
  first: Float[Array, "B *A"],
  second: Float[Array, "B *A"],
  levels: tuple[Float[Array, "B"], Float[Array, "B"], Float[Array, "B"]],
) -> Float[Array, "B *A"]:
  """Returns the x of one step that ends where two end: equation (2).

  Args:
    first: x of the step from a to b.
    second: x of the step from b to c.
    levels: a > b > c >= 0.
  """
  a, b, c = levels
  weight = (1 - c / b) / (1 - c / a)
  weight = jnp.expand_dims(weight, tuple(range(1, first.ndim)))
  return (1 - weight) * first + weight * second


def _step(z: Array, x: Array, now: Array, new: Array) -> jax.Array:
  """Equation (1)."""
  ratio = jnp.expand_dims(new / now, tuple(range(1, z.ndim)))
  return ratio * z + (1 - ratio) * x


@dataclasses.dataclass(frozen=True)
class ShortcutForecaster:
  """Samples futures in few calls.

  Attributes:
    spec: shape of the latents.
    network: the transformer; its `condition_dim` is the number of lengths.
    transform: scales of context and target.
    grid: levels from noise to zero, 2^m + 1 of them.
    draw_levels: keys -> noise levels of training of steps of no length.
    steps: network calls of one sample, a power of two up to 2^m.
    weight: of the loss of the longer steps.
    context_noise: largest noise level added to the context while training.
    context_level: noise level added to the context that is sampled from.
    chunk: samples of each example integrated at a time, which bounds memory.
  """

  spec: LatentSpec
  network: Denoiser
  transform: Transform
  grid: np.ndarray
  draw_levels: Callable[[jax.Array], jax.Array]
  steps: int = 4
  weight: float = 0.5
  context_noise: float = 0.0
  context_level: float = 0.0
  chunk: int = 5
  name: str = dataclasses.field(default="shortcut", init=False)
  trainable: bool = dataclasses.field(default=True, init=False)
  deterministic: bool = dataclasses.field(default=False, init=False)

  def __post_init__(self):
    check_steps(self.steps, len(self.grid) - 1)
    objective.check_context_level(self.context_level, self.context_noise)

  @property
  def calls(self) -> int:
    """Network calls of one sample."""
    return self.steps

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters."""
    return init_network(self.network, self.spec, key)

  def predict(
    self,
    params: Params,
    cache: Cache,
    z: Float[Array, "B S tf h w C"],
    t: Float[Array, "B S"],
    length: Int[Array, "B S"],
    times: Float[Array, "B t"],
  ) -> Float[Array, "B S tf h w C"]:
    """Returns x for steps from level t over 2^length grid steps, 0: none."""
    levels = jnp.broadcast_to(t[..., None], z.shape[:3])
    code = jax.nn.one_hot(length, self.network.config.condition_dim)
    return self.network.apply(
      params, cache, z, levels, times, code, method="denoise"
    )

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log."""
    x0 = self.transform.future(batch["future"], batch["context"])
    number = 7 if self.context_noise else 5
    keys = objective.fold_each(objective.example_keys(batch, key), number)
    normal = lambda key: jax.random.normal(key, x0.shape[1:])  # noqa: E731
    eps = jax.vmap(jax.vmap(normal))(keys[:, :2])
    past = self.transform.context(batch["context"])
    past, level = objective.noisy_context(
      LINEAR, past, keys[:, 5:], self.context_noise
    )
    cache = self.network.apply(
      params, past, batch["times"], level, method="encode_context"
    )
    length, (a, b, c) = self._draw_step(keys[:, 3], keys[:, 4])
    t = jnp.stack([self.draw_levels(keys[:, 2]), a], 1)
    levels = jnp.broadcast_to(t[..., None], (*t.shape, self.spec.tf))
    z = process.corrupt(
      LINEAR, jnp.broadcast_to(x0[:, None], eps.shape), eps, levels
    )

    def half(z: Array, t: Array) -> jax.Array:
      return self.predict(
        *jax.lax.stop_gradient((params, cache)),
        z[:, None],
        t[:, None],
        # Of two grid steps the halves are as good as of no length.
        (length - 1)[:, None],
        batch["times"],
      )[:, 0]

    first = half(z[:, 1], a)
    second = half(_step(z[:, 1], first, a, b), b)
    target = jnp.stack([x0, combine(first, second, (a, b, c))], 1)
    lengths = jnp.stack([jnp.zeros_like(length), length], 1)
    out = self.predict(params, cache, z, t, lengths, batch["times"])
    error = jnp.mean(
      jnp.square(out - jax.lax.stop_gradient(target)), axis=(2, 3, 4, 5)
    )
    # Of no length: the error of the velocity. Of a step: that of x, which (2)
    # hands on to steps of twice the length as it is.
    velocity = error[:, 0] / jnp.square(
      jnp.maximum(t[:, 0], objective.WEIGHT_FLOOR)
    )
    losses = velocity + self.weight * error[:, 1]
    mask = batch.get("mask")
    aux = {
      "x0_error": objective.masked_mean(error[:, 0], mask),
      "shortcut_error": objective.masked_mean(error[:, 1], mask),
    }
    return objective.mask_examples(losses, mask), aux

  def _draw_step(
    self, length_keys: Key[Array, "B"], place_keys: Key[Array, "B"]
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """Draws a length and a place on the grid for each example.

    Returns:
      The length as a power of two, and the levels at the start, in the middle
      and at the end of the step.
    """
    grid = jnp.asarray(self.grid, jnp.float32)
    finest = len(self.grid) - 1
    lengths = self.network.config.condition_dim
    draw = lambda key: jax.random.randint(key, (), 1, lengths)  # noqa: E731
    length = jax.vmap(draw)(length_keys)
    span = 2**length
    uniform = jax.vmap(jax.random.uniform)(place_keys)
    count = finest // span
    start = span * jnp.minimum((uniform * count).astype(int), count - 1)
    return length, (grid[start], grid[start + span // 2], grid[start + span])

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures; see `DiffusionForecaster.sample`."""
    span = (len(self.grid) - 1) // self.steps
    table = sampler.make_table("euler", self.grid[::span])
    spec = self.spec
    shape = (spec.tf, spec.h, spec.w, spec.channels)

    def draw(context: Array, times: Array, keys: Array) -> jax.Array:
      past, level = objective.noised_to(
        LINEAR, self.transform.context(context), keys, self.context_level
      )
      cache = self.network.apply(
        params, past, times, level, method="encode_context"
      )

      def x0_hat(z: jax.Array, t: jax.Array) -> jax.Array:
        levels = jnp.broadcast_to(t, z.shape[:2])
        length = jnp.full(z.shape[:2], span.bit_length() - 1)
        return self.predict(params, cache, z, levels, length, times)

      drawn = in_chunks(
        lambda keys: sampler.draw(x0_hat, table, keys, shape),
        keys,
        num_samples,
        self.chunk,
      )
      return self.transform.invert_future(drawn, context)

    return each_example(draw, context, times, keys)
