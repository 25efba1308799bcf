"""What spread a sampler returns when the denoiser is exact.

For a feature direction whose standard deviation given the context is s, the
best denoiser of z_t = (1 - t) z_0 + t eps is linear,

  x0_hat(z, t) = (1 - t) s^2 / ((1 - t)^2 s^2 + t^2) z,

so that every row of a sampler's table is a linear map of (z_k, z_{k-1},
x0_{k-1}) plus noise, and the variance it returns is an exact product of such
maps. A ratio below one is spread that the sampler itself deletes, whatever was
trained.

Source: forecaster.md 6.1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.special
from ml_collections import ConfigDict

from forecasting.forecaster.flow import sampler_table
from forecasting.forecaster.sampler import SamplerTable

DEFAULT_STDS = (0.05, 0.3, 1.0, 3.0)


def exact_gain(std: float, t: float | np.ndarray) -> float | np.ndarray:
  """Returns x0_hat / z of the exact denoiser for data N(0, std^2)."""
  signal = (1 - t) * std**2
  return signal / ((1 - t) * signal + t**2)


def output_std(table: SamplerTable, std: float) -> float:
  """Returns the standard deviation of samples for data N(0, std^2).

  Args:
    table: sampler to judge.
    std: standard deviation of the data.

  Returns:
    The standard deviation when starting from unit-variance noise.
  """
  covariance = np.zeros((3, 3))
  covariance[0, 0] = 1.0
  for t, (a, b, c, d, e) in zip(table.times, table.coefficients, strict=True):
    gain = exact_gain(std, t)
    step = np.array([[a + b * gain, d, c], [1, 0, 0], [gain, 0, 0]])
    covariance = step @ covariance @ step.T
    covariance[0, 0] += e**2
  return float(np.sqrt(covariance[0, 0]))


def num_calls(sampler_cfg: ConfigDict | Mapping) -> int:
  """Returns the network calls of one sample of a configured sampler.

  Args:
    sampler_cfg: `config.forecaster.sampler`.
  """
  return len(sampler_table(ConfigDict(sampler_cfg)).times)


def untrained_calls(
  sampler_cfg: ConfigDict | Mapping, shift: float, share: float = 1e-3
) -> int:
  """Returns at how many calls the network is asked about levels it never saw.

  Training draws log(t / (1 - t)) normally around log(shift); calls at levels
  that less than a share of the draws go below rely on what the network makes
  of the nearest ones.

  Args:
    sampler_cfg: `config.forecaster.sampler`.
    shift: of training (`schedule.resolve_shift`).
    share: of the draws.
  """
  times = sampler_table(ConfigDict(sampler_cfg)).times
  logits = np.log(times / np.maximum(1 - times, 1e-12)) - np.log(shift)
  return int(np.sum(scipy.special.ndtr(logits) < share))


def spread_table(
  sampler_cfg: ConfigDict | Mapping, stds: Sequence[float] = DEFAULT_STDS
) -> dict[float, float]:
  """Returns the share of each spread that a configured sampler keeps.

  Args:
    sampler_cfg: `config.forecaster.sampler`.
    stds: conditional standard deviations to try.

  Returns:
    Standard deviation -> (standard deviation of the samples) / (that of the
    data); 1 is right.
  """
  return spread(sampler_table(ConfigDict(sampler_cfg)), stds)


def spread(
  table: SamplerTable, stds: Sequence[float] = DEFAULT_STDS
) -> dict[float, float]:
  """Returns the share of each spread that a sampler keeps.

  Args:
    table: of the sampler.
    stds: as for `spread_table`.

  Returns:
    As `spread_table`.
  """
  return {std: output_std(table, std) / std for std in stds}
