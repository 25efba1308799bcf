"""Integrates from noise to data: a time grid, a step rule, one scan.

Every sampler here is linear in what the network says, so it is a table with
one row per network call. With the history z (noisy latents) and x0 (predicted
data), a row reads

  z_{k+1} = a z_k + b x0_k + c x0_{k-1} + d z_{k-1} + e noise,
  x0_k    = x0_hat(z_k, t_k).

The coefficients are computed in float64 on the host before anything runs; the
singular ends t = 1 (no signal) and t = 0 (no noise) are exact limits there.
`diagnose.py` reads the same tables to predict the spread of the samples.
Paths other than the linear one are mapped to it first (`schedule.py`).
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from forecasting.forecaster.schedule import shift_times
from forecasting.shapes import Array

GRIDS = ("uniform", "shifted", "logsnr", "edm")
SAMPLERS = ("euler", "heun", "dpmpp_2m", "ddim", "ancestral", "sde")
_MAX_CHURN = np.sqrt(2.0) - 1.0


@dataclasses.dataclass(frozen=True)
class SamplerTable:
  """One row per network call.

  Attributes:
    times: [n] noise level of each call on the linear path.
    coefficients: [n 5] columns a, b, c, d, e.
  """

  times: np.ndarray
  coefficients: np.ndarray

  @property
  def is_stochastic(self) -> bool:
    """Whether any row adds noise."""
    return bool(np.any(self.coefficients[:, 4]))


def make_grid(
  name: str,
  steps: int,
  *,
  t_max: float = 0.998,
  t_min: float = 0.005,
  shift: float = 1.0,
  rho: float = 7.0,
) -> np.ndarray:
  """Returns `steps` decreasing noise levels followed by zero.

  Args:
    name: 'uniform' (i / steps), 'shifted' (the same, moved by `shift`),
      'logsnr' (uniform in log((1 - t) / t)) or 'edm' (Karras et al. 2022).
    steps: levels at which the network is called.
    t_max: first level of 'logsnr' and 'edm'; the others start at 1.
    t_min: last level of 'logsnr' and 'edm' before zero.
    shift: factor of 'shifted'.
    rho: exponent of 'edm'.

  Returns:
    [steps + 1] float64.

  Raises:
    ValueError: on an unknown grid, fewer than 1 step or misplaced ends.
  """
  if steps < 1 or not 0 < t_min < t_max < 1:
    raise ValueError(
      f"forecaster.sampler: steps {steps}, t_min {t_min}, t_max {t_max}:"
      " expected steps >= 1 and 0 < t_min < t_max < 1."
    )
  if name in ("uniform", "shifted"):
    times = np.arange(steps, 0, -1) / steps
    times = shift_times(times, shift) if name == "shifted" else times
  elif name == "logsnr":
    ends = (np.log((1 - t) / t) for t in (t_max, t_min))
    times = 1 / (1 + np.exp(np.linspace(*ends, steps)))
  elif name == "edm":
    ends = ((t / (1 - t)) ** (1 / rho) for t in (t_max, t_min))
    ratio = np.linspace(*ends, steps) ** rho
    times = ratio / (1 + ratio)
  else:
    raise ValueError(f"forecaster.sampler.grid is {name!r}: one of {GRIDS}.")
  return np.append(times, 0.0)


def _ratio(now: float, new: float) -> float:
  """(new / (1 - new)) / (now / (1 - now)), finite at both ends."""
  return new * (1 - now) / ((1 - new) * now)


def _ddim_row(now: float, new: float, eta: float) -> list[float]:
  ratio = _ratio(now, new)
  fresh = eta * new * np.sqrt(max(1 - ratio**2, 0.0))
  kept = np.sqrt(max(new**2 - fresh**2, 0.0))
  return [kept / now, (1 - new) - kept * (1 - now) / now, 0.0, 0.0, fresh]


def _dpmpp_2m_row(before: float | None, now: float, new: float) -> list[float]:
  ratio = _ratio(now, new)
  weight = (1 - new) * (1 - ratio)
  extra = 0.0
  if before is not None and new > 0:
    # h / (2 h_before) in log-SNR; a first call at t = 1 counts as no history.
    previous = _ratio(before, now)
    extra = 0.0 if previous == 0 else np.log(ratio) / np.log(previous) / 2
  return [new / now, weight * (1 + extra), -weight * extra, 0.0, 0.0]


def _heun_rows(now: float, new: float) -> list[list[float]]:
  euler = _ddim_row(now, new, 0.0)
  if new == 0:
    return [euler]
  step = (new - now) / 2
  # z_{k-1} + step ((z_{k-1} - x0_{k-1}) / now + (z_k - x0_k) / new)
  corrector = [step / new, -step / new, -step / now, 1 + step / now, 0.0]
  return [euler, corrector]


def make_table(
  name: str,
  times: Sequence[float] | np.ndarray,
  *,
  eta: float = 0.0,
  churn: float = 0.0,
  noise_inflation: float = 1.0,
) -> SamplerTable:
  """Compiles a step rule over a grid into a table.

  Args:
    name: 'euler'; 'heun' (two calls a step, one for a jump to zero);
      'dpmpp_2m' (DPM-Solver++ 2M in data-prediction form); 'ddim' with `eta`;
      'ancestral' (ddim with eta = 1); 'sde' (heun after raising the noise level
      by `churn`, Karras et al. 2022). Euler is ddim with eta = 0 on this path.
    times: decreasing noise levels, one more than steps.
    eta: share of fresh noise of 'ddim'.
    churn: S_churn of 'sde'; it acts from the second step on, since the first
      starts from pure noise anyway.
    noise_inflation: factor on all noise added along the way.

  Returns:
    The table.

  Raises:
    ValueError: on an unknown name.
  """
  times = np.asarray(times, np.float64)
  levels: list[float] = []
  rows: list[list[float]] = []
  gamma = min(churn / (len(times) - 1), _MAX_CHURN) if name == "sde" else 0.0
  now = times[0]
  for k, new in enumerate(times[1:]):
    if name in ("euler", "ddim", "ancestral"):
      fresh = {"euler": 0.0, "ddim": eta, "ancestral": 1.0}[name]
      step_rows = [_ddim_row(now, new, fresh)]
    elif name == "dpmpp_2m":
      step_rows = [_dpmpp_2m_row(times[k - 1] if k else None, now, new)]
    elif name in ("heun", "sde"):
      step_rows = _heun_rows(now, new)
    else:
      raise ValueError(
        f"forecaster.sampler.name is {name!r}: one of {SAMPLERS}."
      )
    levels += [now] if len(step_rows) == 1 else [now, new]
    now = new
    if gamma and new > 0:
      # Raise the level the next step starts from: sigma / alpha grows by gamma.
      shrink = 1 / (1 + gamma * new)
      step_rows[-1] = [value * shrink for value in step_rows[-1]]
      step_rows[-1][4] = new * np.sqrt(gamma * (2 + gamma)) * shrink
      now = new * (1 + gamma) * shrink
    rows += step_rows
  coefficients = np.array(rows)
  coefficients[:, 4] *= noise_inflation
  return SamplerTable(np.array(levels), coefficients)


def check_noise(
  name: str,
  eta: float = 0.0,
  churn: float = 0.0,
  noise_inflation: float = 1.0,
  section: str = "forecaster.sampler",
) -> None:
  """Raises ValueError if a step rule ignores what is set.

  Args:
    name: of the step rule.
    eta: see `make_table`.
    churn: likewise.
    noise_inflation: likewise.
    section: of the config that the fields are of.
  """
  adds_noise = {"ancestral": True, "ddim": eta, "sde": churn}.get(name, False)
  for field, value, neutral, is_heeded, who in (
    ("eta", eta, 0.0, name == "ddim", "'ddim' alone reads it"),
    ("churn", churn, 0.0, name == "sde", "'sde' alone reads it"),
    (
      "noise_inflation",
      noise_inflation,
      1.0,
      adds_noise,
      "it scales the noise that 'ancestral', 'ddim' with eta and 'sde' with"
      " churn add",
    ),
  ):
    if value != neutral and not is_heeded:
      raise ValueError(
        f"{section}.{field} is {value}, which the sampler {name!r} ignores:"
        f" {who}. Set it to {neutral:g}, or choose such a sampler."
      )


def draw(
  x0_hat: Callable[[jax.Array, jax.Array], jax.Array],
  table: SamplerTable,
  keys: Key[Array, "*B"],
  shape: tuple[int, ...],
) -> Float[Array, "..."]:
  """Integrates one sample per key.

  Args:
    x0_hat: (z [*B *shape], t scalar) -> predicted data in the shape of z.
    table: rows to execute.
    keys: one key per sample; the start uses fold_in(key, 0) and the noise
      after call k fold_in(key, k + 1).
    shape: shape of one sample.

  Returns:
    Samples [*B *shape], float32.
  """
  normal = lambda key: jax.random.normal(key, shape)  # noqa: E731
  fold = jax.random.fold_in
  for _ in range(keys.ndim):
    normal = jax.vmap(normal)
    fold = jax.vmap(fold, in_axes=(0, None))

  def call(carry, row):
    z, z_before, x0_before = carry
    index, t, (a, b, c, d, e) = row
    x0 = x0_hat(z, t).astype(jnp.float32)
    new = a * z + b * x0 + c * x0_before + d * z_before
    if table.is_stochastic:
      new += e * normal(fold(keys, index))
    return (new, z, x0), None

  start = normal(fold(keys, 0))
  rows = (
    jnp.arange(1, len(table.times) + 1),
    jnp.asarray(table.times, jnp.float32),
    tuple(jnp.asarray(column, jnp.float32) for column in table.coefficients.T),
  )
  zeros = jnp.zeros_like(start)
  (z, _, _), _ = jax.lax.scan(call, (start, zeros, zeros), rows)
  return z
