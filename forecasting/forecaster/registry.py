"""Names to forecasters."""

import dataclasses
import difflib

from ml_collections import ConfigDict

from forecasting.forecaster import (
  baselines,
  fitted,
  objective,
  sampler,
  shortcut,
)
from forecasting.forecaster.architecture import DenoiserConfig
from forecasting.forecaster.base import Forecaster, LatentSpec
from forecasting.forecaster.ddpm import make_ddpm
from forecasting.forecaster.denoiser import Denoiser
from forecasting.forecaster.energy import EnergyForecaster
from forecasting.forecaster.flow import make_flow
from forecasting.forecaster.masked import MaskedForecaster
from forecasting.forecaster.regression import RegressionForecaster
from forecasting.forecaster.schedule import resolve_shift
from forecasting.forecaster.transforms import (
  Statistics,
  Transform,
  make_transform,
)

LEARNT = ("flow", "ddpm", "regression", "masked", "energy", "shortcut")
TRAINING_FREE = (
  "persistence_latent",
  "linear_latent",
  "ridge_latent",
  "analogue",
  "climatology",
)
NAMES = LEARNT + TRAINING_FREE


def make_forecaster(
  name: str, cfg: ConfigDict, spec: LatentSpec, stats: Statistics | None
) -> Forecaster:
  """Builds a forecaster.

  Args:
    name: one of NAMES.
    cfg: `config.forecaster`.
    spec: shape of the latents.
    stats: statistics of the training latents (`latents/normalize.py`); None
      leaves latents as they are.

  Returns:
    The forecaster; it holds no parameters.

  Raises:
    ValueError: on an unknown name or a field out of range.
  """
  if name not in NAMES:
    nearest = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.0)[0]
    raise ValueError(
      f"unknown forecaster {name!r}: did you mean {nearest!r}? Known:"
      f" {', '.join(NAMES)}."
    )
  if name in TRAINING_FREE:
    return _training_free(name, cfg, spec)
  sizes = DenoiserConfig(**cfg.model.to_dict())
  transform = make_transform(spec, stats, **cfg.normalize.to_dict())
  if name == "energy":
    return _energy(cfg, spec, sizes, transform)
  if name == "shortcut":
    return _shortcut(cfg, spec, sizes, transform)
  if name == "masked":
    return _masked(cfg, spec, sizes, transform)
  network = Denoiser(sizes, spec.channels)
  if name == "regression":
    return RegressionForecaster(spec, network, transform, cfg.regression.loss)
  make = {"flow": make_flow, "ddpm": make_ddpm}[name]
  return make(cfg, spec, network, transform)


def _training_free(name: str, cfg: ConfigDict, spec: LatentSpec) -> Forecaster:
  if name == "ridge_latent":
    return fitted.RidgeLatent(spec, cfg.ridge_latent.penalty)
  make = {
    "persistence_latent": baselines.PersistenceLatent,
    "linear_latent": fitted.LinearLatent,
    "analogue": fitted.Analogue,
    "climatology": baselines.Climatology,
  }[name]
  return make(spec)


def _energy(
  cfg: ConfigDict,
  spec: LatentSpec,
  sizes: DenoiserConfig,
  transform: Transform,
) -> EnergyForecaster:
  sizes = dataclasses.replace(sizes, condition_dim=cfg.energy.noise_dim)
  return EnergyForecaster(
    spec=spec,
    network=Denoiser(sizes, spec.channels),
    transform=transform,
    members=cfg.energy.members,
    norm=cfg.energy.norm,
    chunk=cfg.sampler.get("chunk", 5),
  )


def _masked(
  cfg: ConfigDict,
  spec: LatentSpec,
  sizes: DenoiserConfig,
  transform: Transform,
) -> MaskedForecaster:
  sizes = dataclasses.replace(
    sizes,
    attention=cfg.masked.attention,
    conditioning=cfg.masked.conditioning,
  )
  network = Denoiser(sizes, spec.channels)
  return MaskedForecaster(spec, network, transform, cfg.masked.beta)


def _shortcut(
  cfg: ConfigDict,
  spec: LatentSpec,
  sizes: DenoiserConfig,
  transform: Transform,
) -> shortcut.ShortcutForecaster:
  finest = cfg.shortcut.finest
  sizes = dataclasses.replace(sizes, condition_dim=shortcut.num_lengths(finest))
  shift = resolve_shift(cfg.flow.shift, spec.tf, spec.h * spec.w, spec.channels)
  return shortcut.ShortcutForecaster(
    spec=spec,
    network=Denoiser(sizes, spec.channels),
    transform=transform,
    grid=sampler.make_grid(
      "logsnr", finest, t_max=cfg.sampler.t_max, t_min=cfg.sampler.t_min
    ),
    draw_levels=lambda keys: objective.logit_normal(keys, shift),
    steps=cfg.shortcut.steps,
    weight=cfg.shortcut.weight,
    chunk=cfg.sampler.get("chunk", 5),
  )
