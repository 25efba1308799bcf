"""`ddpm`: the most literal reading of "denoising diffusion" in the paper.

Variance-preserving cosine path, 1000 discrete levels drawn uniformly, v-, eps-
or x0-prediction with the squared error of what is predicted, DDIM or ancestral
sampling on levels evenly spaced in time.

Source: forecaster.md 5.3; Ho et al. 2020, Nichol & Dhariwal 2021, Salimans & Ho
2022. Which of these the paper used, it does not say.
"""

import jax
import numpy as np
from ml_collections import ConfigDict

from forecasting.forecaster import objective, sampler
from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.denoiser import Denoiser
from forecasting.forecaster.diffusion import DiffusionForecaster
from forecasting.forecaster.schedule import COSINE, to_linear
from forecasting.forecaster.transforms import Transform

SAMPLERS = ("ddim", "ancestral")


def cosine_grid(levels: int, steps: int) -> np.ndarray:
  """Returns `steps` of the trained levels, first to last, then zero.

  Args:
    levels: levels of training.
    steps: network calls.

  Returns:
    Decreasing times of the linear path, [steps + 1].

  Raises:
    ValueError: if there are more steps than levels, or none.
  """
  if not 1 <= steps <= levels:
    raise ValueError(
      f"forecaster.ddpm.steps is {steps}: expected 1 to"
      f" forecaster.ddpm.levels = {levels}."
    )
  index = np.round(np.linspace(levels - 1, 0, steps))
  # Numbers also where the forecaster is made on shapes alone.
  with jax.ensure_compile_time_eval():
    times = np.asarray(to_linear(COSINE, (index + 0.5) / levels), np.float64)
  return np.append(times, 0.0)


def sampler_table(cfg: ConfigDict) -> sampler.SamplerTable:
  """Compiles the sampler of `config.forecaster.ddpm`.

  Args:
    cfg: fields sampler, levels, steps and eta.

  Returns:
    The sampler's table.

  Raises:
    ValueError: on an unknown name or a field that the step rule ignores.
  """
  sampler.check_noise(cfg.sampler, cfg.eta, section="forecaster.ddpm")
  grid = cosine_grid(cfg.levels, cfg.steps)
  return sampler.make_table(cfg.sampler, grid, eta=cfg.eta)


def make_ddpm(
  cfg: ConfigDict, spec: LatentSpec, network: Denoiser, transform: Transform
) -> DiffusionForecaster:
  """Builds `ddpm` from `config.forecaster`.

  Args:
    cfg: section `ddpm` is read, of `flow` how a step draws its noise, and what
      all samplers share of `sampler`.
    spec: shape of the latents.
    network: the transformer.
    transform: scales of context and target.

  Returns:
    The forecaster.
  """
  ddpm = cfg.ddpm
  return DiffusionForecaster(
    name="ddpm",
    spec=spec,
    network=network,
    transform=transform,
    path=COSINE,
    prediction=ddpm.prediction,
    loss_space=ddpm.prediction,
    draw_levels=lambda keys: objective.discrete_levels(keys, ddpm.levels),
    table=sampler_table(ddpm),
    noise_multiplicity=cfg.flow.noise_multiplicity,
    context_noise=cfg.flow.context_noise,
    chunk=cfg.sampler.chunk,
  )
