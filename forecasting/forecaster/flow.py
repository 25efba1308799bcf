"""`flow`: flow matching on latents, the default forecaster.

x0-prediction with a velocity loss, log-SNR-uniform grid, DPM-Solver++ 2M.
The distribution of training noise levels and the sampling grid are separate
fields: sampling on the shifted training levels loses most of the spread.

Source: forecaster.md 5 and 6; our choice, the paper does not say.
"""

import jax
from ml_collections import ConfigDict

from forecasting.forecaster import objective, sampler
from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.denoiser import Denoiser
from forecasting.forecaster.diffusion import DiffusionForecaster
from forecasting.forecaster.schedule import LINEAR, resolve_shift
from forecasting.forecaster.transforms import Transform


def sampler_table(cfg: ConfigDict) -> sampler.SamplerTable:
  """Compiles `config.forecaster.sampler`.

  Args:
    cfg: fields name, grid, steps, t_max, t_min, shift, rho, eta, churn and
      noise_inflation.

  Returns:
    The sampler's table.

  Raises:
    ValueError: on an unknown name or a field that the step rule ignores.
  """
  sampler.check_noise(
    cfg.name, cfg.eta, cfg.churn, cfg.noise_inflation, "forecaster.sampler"
  )
  times = sampler.make_grid(
    cfg.grid,
    cfg.steps,
    t_max=cfg.t_max,
    t_min=cfg.t_min,
    shift=cfg.shift,
    rho=cfg.rho,
  )
  return sampler.make_table(
    cfg.name,
    times,
    eta=cfg.eta,
    churn=cfg.churn,
    noise_inflation=cfg.noise_inflation,
  )


def make_flow(
  cfg: ConfigDict, spec: LatentSpec, network: Denoiser, transform: Transform
) -> DiffusionForecaster:
  """Builds `flow` from `config.forecaster`.

  Args:
    cfg: sections `flow` and `sampler` are read.
    spec: shape of the latents.
    network: the transformer.
    transform: scales of context and target.

  Returns:
    The forecaster.
  """
  shift = resolve_shift(cfg.flow.shift, spec.tf, spec.h * spec.w, spec.channels)
  share, ends = cfg.flow.even_share, (cfg.sampler.t_min, cfg.sampler.t_max)
  if not 0 <= share <= 1:
    raise ValueError(
      f"forecaster.flow.even_share is {share}: expected a share in [0, 1]."
    )

  def draw_levels(keys: jax.Array) -> jax.Array:
    levels = objective.logit_normal(keys, shift)
    if share:
      levels = objective.sometimes_even(keys, levels, share, *ends)
    return levels

  return DiffusionForecaster(
    name="flow",
    spec=spec,
    network=network,
    transform=transform,
    path=LINEAR,
    prediction=cfg.flow.prediction,
    loss_space=cfg.flow.loss_space,
    draw_levels=draw_levels,
    table=sampler_table(cfg.sampler),
    noise_multiplicity=cfg.flow.noise_multiplicity,
    context_dropout=cfg.flow.context_dropout,
    context_noise=cfg.flow.context_noise,
    rolling=cfg.flow.rolling,
    guidance=cfg.sampler.guidance,
    chunk=cfg.sampler.chunk,
  )
