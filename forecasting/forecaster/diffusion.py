"""Forecasters that denoise: `flow.py` and `ddpm.py` configure this one.

Training corrupts the transformed future and asks the network for it; sampling
integrates from noise with the context encoded once per example and shared by
all samples and calls.
"""

import dataclasses
from collections.abc import Callable

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Key

from forecasting.forecaster import objective, process, sampler
from forecasting.forecaster.base import Forecaster, LatentSpec
from forecasting.forecaster.denoiser import Cache, Denoiser
from forecasting.forecaster.schedule import Path, ladder
from forecasting.forecaster.transforms import Transform
from forecasting.shapes import Array, Batch, Context, Params, PRNGKey, Samples


@dataclasses.dataclass(frozen=True)
class DiffusionForecaster:
  """Samples futures by denoising.

  Attributes:
    name: name in configs and result rows.
    spec: shape of the latents.
    network: the transformer.
    transform: scales of context and target.
    path: noise path of training.
    prediction: what the network predicts.
    loss_space: space of the squared error.
    draw_levels: keys -> noise levels of training, one per key.
    table: sampler.
    noise_multiplicity: noise draws per example and step; the context is encoded
      once for all of them.
    context_dropout: probability of hiding the context while training.
    context_noise: largest noise level added to the context while training.
    rolling: share of training draws whose noise rises with lead time, which
      streaming needs (`pyramid.py`).
    context_level: noise level added to the context that is sampled from.
    guidance: strength g of x0_c + g (x0_c - x0_unconditional); 0 is off.
    chunk: samples of each example integrated at a time, which bounds memory.
  """

  name: str
  spec: LatentSpec
  network: Denoiser
  transform: Transform
  path: Path
  prediction: str
  loss_space: str
  draw_levels: Callable[[jax.Array], jax.Array]
  table: sampler.SamplerTable
  noise_multiplicity: int = 1
  context_dropout: float = 0.0
  context_noise: float = 0.0
  rolling: float = 0.0
  context_level: float = 0.0
  guidance: float = 0.0
  chunk: int = 5
  trainable: bool = dataclasses.field(default=True, init=False)
  deterministic: bool = dataclasses.field(default=False, init=False)

  def __post_init__(self):
    for field, allowed in (
      ("prediction", process.NETWORK_OUTPUTS),
      ("loss_space", process.PREDICTIONS),
    ):
      if getattr(self, field) not in allowed:
        raise ValueError(
          f"forecaster.{self.name}.{field} is {getattr(self, field)!r}: one of"
          f" {allowed}."
        )
    if not 0 <= self.rolling <= 1:
      raise ValueError(
        f"forecaster.{self.name}.rolling is {self.rolling}: expected a share"
        " in [0, 1]."
      )
    objective.check_context_level(self.context_level, self.context_noise)
    if self.guidance and not self.context_dropout:
      raise ValueError(
        "forecaster.sampler.guidance needs a network trained without context"
        f" now and then: set forecaster.{self.name}.context_dropout above 0."
      )

  @property
  def calls(self) -> int:
    """Network calls of one sample."""
    return len(self.table.times) * (2 if self.guidance else 1)

  def init(self, key: PRNGKey) -> Params:
    """Returns fresh parameters."""
    return init_network(self.network, self.spec, key)

  def encode_context(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    t_noise: Float[Array, "B tc"] | None = None,
    drop: Bool[Array, "B"] | None = None,
  ) -> Cache:
    """Encodes standardized context; see `Denoiser.encode_context`."""
    return self.network.apply(
      params, context, times, t_noise, drop, method="encode_context"
    )

  def denoise(
    self,
    params: Params,
    cache: Cache,
    z: Float[Array, "B S tf h w C"],
    t_noise: Float[Array, "B S tf"],
    times: Float[Array, "B t"],
  ) -> Float[Array, "B S tf h w C"]:
    """Returns the network's raw prediction; see `Denoiser.denoise`."""
    return self.network.apply(
      params, cache, z, t_noise, times, method="denoise"
    )

  def loss(
    self, params: Params, batch: Batch, key: PRNGKey
  ) -> tuple[Float[Array, "B"], dict[str, Float[Array, ""]]]:
    """Returns one loss per example, and scalars to log."""
    context = self.transform.context(batch["context"])
    x0 = self.transform.future(batch["future"], batch["context"])
    # One fold for all keys of an example: hashing dominates compilation on CPU.
    keys = objective.example_keys(batch, key)
    kinds = 3 if self.rolling else 2
    keys = objective.fold_each(keys, 3 + kinds * self.noise_multiplicity)
    draws = jnp.split(keys[:, 3:], kinds, axis=1)
    t = self.draw_levels(draws[0])
    if self.rolling:
      t = self._some_rolling(t, draws[2])
    normal = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))
    eps = jax.vmap(normal)(draws[1])
    context, level = objective.noisy_context(
      self.path, context, keys[:, :2], self.context_noise
    )
    drop = None
    if self.context_dropout:
      drop = jax.vmap(jax.random.uniform)(keys[:, 2]) < self.context_dropout
    cache = self.encode_context(params, context, batch["times"], level, drop)
    losses, errors = objective.diffusion_loss(
      lambda z, levels: self.denoise(params, cache, z, levels, batch["times"]),
      self.path,
      self.prediction,
      self.loss_space,
      x0,
      eps,
      t,
    )
    mask = batch.get("mask")
    aux = {"x0_error": objective.masked_mean(errors, mask)}
    return objective.mask_examples(losses, mask), aux

  def _some_rolling(
    self, t: Float[Array, "B S"], keys: Key[Array, "B S"]
  ) -> Float[Array, "B S tf"]:
    """Replaces some levels by levels that rise with lead time."""
    slots = self.spec.tf
    draw = lambda key: jax.random.uniform(key, (2,))  # noqa: E731
    uniform = jax.vmap(jax.vmap(draw))(keys)
    rising = self.path.from_linear(ladder(uniform[..., 1], slots))
    equal = jnp.broadcast_to(t[..., None], rising.shape)
    return jnp.where(uniform[..., :1] < self.rolling, rising, equal)

  def x0_hat(
    self,
    params: Params,
    cache: Cache,
    z: Float[Array, "B S tf h w C"],
    t: Float[Array, ""] | Float[Array, "B S tf"],
    times: Float[Array, "B t"],
  ) -> Float[Array, "B S tf h w C"]:
    """Predicts data from z at level t, both on the linear path."""
    t = self.path.from_linear(t)
    levels = jnp.broadcast_to(t, z.shape[:3])
    total = self.path.alpha(t) + self.path.sigma(t)
    z = z * (total[..., None, None, None] if total.ndim else total)
    out = self.denoise(params, cache, z, levels, times)
    return process.CONVERTERS[self.prediction, "x0"](self.path, out, z, levels)

  def sample(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures; see `Forecaster.sample`.

    Returns:
      Latents of the futures. On CPU they are bitwise independent of the batch
      (`each_example`); other chunks or devices change them by rounding alone.
    """

    def draw_futures(context: Array, times: Array, keys: Array) -> jax.Array:
      return self.sample_batch(params, context, times, keys, num_samples)

    return each_example(draw_futures, context, times, keys)

  def sample_batch(
    self,
    params: Params,
    context: Context,
    times: Float[Array, "B t"],
    keys: Key[Array, "B"],
    num_samples: int,
  ) -> Samples:
    """Draws futures of all examples at once; see `sample`."""
    past, level = objective.noised_to(
      self.path, self.transform.context(context), keys, self.context_level
    )
    caches = [self.encode_context(params, past, times, level)]
    if self.guidance:
      absent = jnp.ones(past.shape[:1], bool)
      caches.append(
        self.encode_context(params, past, times, level, drop=absent)
      )

    def x0_hat(z: jax.Array, t: jax.Array) -> jax.Array:
      first, *rest = (
        self.x0_hat(params, cache, z, t, times) for cache in caches
      )
      return first + self.guidance * (first - rest[0]) if rest else first

    spec = self.spec
    shape = (spec.tf, spec.h, spec.w, spec.channels)
    drawn = in_chunks(
      lambda keys: sampler.draw(x0_hat, self.table, keys, shape),
      keys,
      num_samples,
      self.chunk,
    )
    return self.transform.invert_future(drawn, context)


def in_chunks(
  draw: Callable[[jax.Array], jax.Array],
  keys: Key[Array, "B"],
  num_samples: int,
  chunk: int,
) -> Float[Array, "B S ..."]:
  """Draws samples a chunk at a time, which bounds memory.

  Args:
    draw: keys [B c] -> samples [B c ...].
    keys: one key per example; sample s uses fold_in(key, s).
    num_samples: S.
    chunk: samples of each example drawn at a time.

  Returns:
    All samples.
  """
  # Whole chunks always: their shape, and so rounding, knows no num_samples
  # (forecaster.md 6.3). What would waste many calls `drawing_exactly` first.
  padded = -(-num_samples // chunk) * chunk
  chunks = einops.rearrange(
    objective.fold_each(keys, padded), "B (n c) -> n B c", c=chunk
  )
  drawn = jax.lax.map(draw, chunks)
  return einops.rearrange(drawn, "n B c ... -> B (n c) ...")[:, :num_samples]


def drawing_exactly(forecaster: Forecaster, samples: int) -> Forecaster:
  """Returns the forecaster whose chunks hold so many samples and no others.

  Args:
    forecaster: one that draws chunks, or one around it; others stay as they
      are.
    samples: that `sample` will be asked for.
  """
  if hasattr(forecaster, "inner"):
    inner = drawing_exactly(forecaster.inner, samples)
    return dataclasses.replace(forecaster, inner=inner)
  if not hasattr(forecaster, "chunk"):
    return forecaster
  # On CPU a chunk's size decides its rounding, which must not know how many
  # samples there are.
  on_cpu = jax.default_backend() == "cpu"
  size = 1 if on_cpu else _fitting(samples, forecaster.chunk)
  return dataclasses.replace(forecaster, chunk=size)


def _fitting(samples: int, chunk: int) -> int:
  """Returns the largest chunk, up to `chunk`, that leaves none to spare."""
  sizes = range(1, min(samples, chunk) + 1)
  return max(size for size in sizes if samples % size == 0)


def each_group(
  function: Callable[..., jax.Array], chunk: int, *arrays: Array
) -> Float[Array, "B S ..."]:
  """Applies a batched function to samples, each an example of its own.

  Args:
    function: from batched arrays to a batched array; `each_example` bounds its
      memory on CPU.
    chunk: samples of each example in one call on accelerators, at most.
    *arrays: its arguments, [B S ...].

  Returns:
    What the function returns for every sample.
  """
  samples = arrays[0].shape[1]
  on_cpu = jax.default_backend() == "cpu"
  size = samples if on_cpu else _fitting(samples, chunk)
  groups = tuple(
    einops.rearrange(x, "B (n c) ... -> n (B c) ...", c=size) for x in arrays
  )
  done = jax.lax.map(lambda group: function(*group), groups)
  return einops.rearrange(done, "n (B c) ... -> B (n c) ...", c=size)


def each_example(
  function: Callable[..., jax.Array], *arrays: Array
) -> jax.Array:
  """Applies a batched function, on CPU to one example after the other.

  XLA chooses CPU kernels by shape, and their rounding differs: an example's
  result would depend on the batch it came in. One at a time it does not, and
  the smaller arrays fit the cache. Accelerators need the whole batch at once.

  Args:
    function: from batched arrays to a batched array.
    *arrays: its arguments, batch axis first.

  Returns:
    What the function returns for the whole batch.
  """
  if jax.default_backend() != "cpu":
    return function(*arrays)
  alone = lambda row: function(*(x[None] for x in row))[0]  # noqa: E731
  size = len(arrays[0])
  # XLA would inline a loop of one and fuse it with what surrounds it.
  rows = jnp.arange(max(size, 2)) % size
  return jax.lax.map(alone, tuple(x[rows] for x in arrays))[:size]


def init_network(network: Denoiser, spec: LatentSpec, key: PRNGKey) -> Params:
  """Initializes the transformer for latents of `spec`."""
  grid = (spec.h, spec.w, spec.channels)
  condition_dim = network.config.condition_dim
  return network.init(
    key,
    jnp.zeros((1, spec.tc, *grid)),
    jnp.zeros((1, 1, spec.tf, *grid)),
    jnp.zeros((1, 1, spec.tf)),
    jnp.zeros((1, spec.tc + spec.tf)),
    jnp.zeros((1, 1, condition_dim)) if condition_dim else None,
  )
