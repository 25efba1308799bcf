"""Names to forecasters."""

import dataclasses
import difflib
import re

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from forecasting.forecaster import (
  baselines,
  fitted,
  objective,
  sampler,
  shortcut,
)
from forecasting.forecaster.architecture import DenoiserConfig
from forecasting.forecaster.base import (
  Forecaster,
  LatentSpec,
  TrainableForecaster,
)
from forecasting.forecaster.best_of_many import BestOfManyForecaster
from forecasting.forecaster.compressed import CompressedForecaster
from forecasting.forecaster.ddpm import make_ddpm
from forecasting.forecaster.denoiser import Denoiser
from forecasting.forecaster.diffusion import DiffusionForecaster
from forecasting.forecaster.energy import EnergyForecaster
from forecasting.forecaster.ensemble import DeepEnsemble
from forecasting.forecaster.flow import make_flow
from forecasting.forecaster.masked import MaskedForecaster
from forecasting.forecaster.one_call import OneCallForecaster
from forecasting.forecaster.pyramid import Pyramid
from forecasting.forecaster.regression import RegressionForecaster
from forecasting.forecaster.residual import ResidualForecaster
from forecasting.forecaster.rollout import Rollout
from forecasting.forecaster.schedule import resolve_shift
from forecasting.forecaster.transforms import (
  Statistics,
  Transform,
  make_transform,
)

_ONE_CALL = {"energy": EnergyForecaster, "best_of_many": BestOfManyForecaster}
LEARNT = ("flow", "ddpm", "regression", "masked", *_ONE_CALL, "shortcut")
TRAINING_FREE = (
  "persistence_latent",
  "linear_latent",
  "ridge_latent",
  "analogue",
  "climatology",
)
NAMES = LEARNT + TRAINING_FREE
HORIZON_MODES = ("rollout", "pyramid")
_DETERMINISTIC = ("regression", "masked")


def make_forecaster(
  name: str,
  cfg: ConfigDict,
  spec: LatentSpec,
  stats: Statistics | None,
  windows: int = 1,
) -> Forecaster:
  """Builds a forecaster.

  Args:
    name: one of NAMES.
    cfg: `config.forecaster`.
    spec: shape of the latents of one window.
    stats: statistics of the training latents (`latents/normalize.py`, with
      compression and some transforms `latents/scales.py`); None leaves latents
      as they are.
    windows: how many windows it forecasts, as `cfg.horizon` says; parameters do
      not depend on it. Only learnt forecasters take more than one.

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
  forecaster = _compressed(name, cfg, spec, stats)
  if windows > 1:
    check_horizon(name, cfg)
    forecaster = _long(forecaster, cfg, spec, windows)
  if cfg.ensemble == 1:
    return forecaster
  return DeepEnsemble(forecaster, cfg.ensemble)


def compression(compress: str) -> tuple[str, int]:
  """Returns word and k of `config.forecaster.compress`.

  Args:
    compress: 'pca(k)', 'vae(k)', or 'none', whose k is 0.

  Raises:
    ValueError: it is none of them.
  """
  if compress == "none":
    return "none", 0
  match = re.fullmatch(r"(pca|vae)\((\d+)\)", compress)
  if not match or int(match[2]) < 1:
    raise ValueError(
      f"forecaster.compress is {compress!r}: expected 'none', 'pca(k)' or"
      " 'vae(k)' with k components, as in 'pca(64)'."
    )
  return match[1], int(match[2])


def needs_scales(cfg: ConfigDict) -> bool:
  """Returns whether `config.forecaster` reads statistics of `Scales`."""
  return (
    cfg.compress != "none"
    or cfg.normalize.stats == "per_element"
    or cfg.normalize.target_transform == "residual_linear"
  )


def _compressed(
  name: str, cfg: ConfigDict, spec: LatentSpec, stats: Statistics | None
) -> TrainableForecaster:
  """Returns a learnt forecaster of channels, or of components."""
  kind, components = compression(cfg.compress)
  normalize = cfg.normalize.to_dict()
  if kind == "none":
    transform = make_transform(spec, stats, **normalize)
    return _learnt(name, cfg, spec, transform)
  codec = getattr(stats, "codec", None)
  expected = (kind, (spec.channels, components))
  found = (codec.kind, codec.shape) if codec else "none"
  if found != expected:
    raise ValueError(
      f"forecaster.compress is {cfg.compress!r}, but the codec of the"
      f" statistics is {found}, not {expected}; compute them with"
      " latents.scales.compute_scales."
    )
  inner = dataclasses.replace(spec, channels=components)
  # Components have no LayerNorm; the latents made of them do.
  transform = make_transform(inner, stats, **normalize | {"project_ln": False})
  return CompressedForecaster(
    inner=_learnt(name, cfg, inner, transform),
    spec=spec,
    codec=jax.tree.map(jnp.asarray, codec),
    project_ln=cfg.normalize.project_ln,
  )


def _learnt(
  name: str, cfg: ConfigDict, spec: LatentSpec, transform: Transform
) -> TrainableForecaster:
  """Returns a learnt forecaster, around a regression if the config says so."""
  is_model = cfg.normalize.target_transform == "residual_model"
  if not is_model or name in _DETERMINISTIC:
    return _network(name, cfg, spec, transform)
  bare = transform.without_target()
  return ResidualForecaster(
    inner=_network(name, cfg, spec, bare),
    regression=_network("regression", cfg, spec, transform),
  )


def _network(
  name: str, cfg: ConfigDict, spec: LatentSpec, transform: Transform
) -> TrainableForecaster:
  sizes = _sizes(cfg.model, spec.channels)
  if name in _ONE_CALL:
    return _one_call(name, cfg, spec, sizes, transform)
  if name == "shortcut":
    return _shortcut(cfg, spec, sizes, transform)
  if name == "masked":
    return _masked(cfg, spec, sizes, transform)
  network = Denoiser(sizes, spec.channels)
  if name == "regression":
    return RegressionForecaster(spec, network, transform, cfg.regression.loss)
  make = {"flow": make_flow, "ddpm": make_ddpm}[name]
  return make(cfg, spec, network, transform)


def _sizes(model: ConfigDict, channels: int) -> DenoiserConfig:
  """Returns the network's size; `head_width` -1 is as wide as tokens need.

  Source: forecaster.md 7.3.
  """
  fields = model.to_dict()
  if fields["head_width"] == -1:
    token = channels * model.patch**2
    wide = max(model.width, -(-token // 256) * 256)
    head = model.width // model.heads
    fields["head_width"] = -(-wide // head) * head if model.width < token else 0
  return DenoiserConfig(**fields)


def check_horizon(name: str, cfg: ConfigDict) -> None:
  """Raises ValueError if a forecaster cannot go beyond a window as asked.

  Args:
    name: one of LEARNT.
    cfg: `config.forecaster`.
  """
  mode = cfg.horizon.mode
  if mode not in HORIZON_MODES:
    raise ValueError(
      f"forecaster.horizon.mode is {mode!r}: one of {HORIZON_MODES}."
    )
  # Others than those that denoise have no levels that could rise.
  if mode == "rollout" or name not in ("flow", "ddpm"):
    return
  wanted = f"forecaster.horizon.mode is {mode!r}, "
  instead = " or forecaster.horizon.mode='rollout'."
  if name == "ddpm":
    raise ValueError(
      f"{wanted}but 'ddpm' is never trained with noise that rises with lead"
      f" time: choose 'flow' among the forecasters instead{instead}"
    )
  if not cfg.flow.rolling:
    raise ValueError(
      f"{wanted}but forecaster.flow.rolling is 0: no step trains noise that"
      f" rises with lead time. Set it above 0, as in 0.5,{instead}"
    )
  target = cfg.normalize.target_transform
  for field, value, is_refused, other in (
    ("compress", cfg.compress, cfg.compress != "none", "none"),
    (
      "normalize.target_transform",
      target,
      target == "residual_model",
      "residual_last",
    ),
  ):
    if is_refused:
      raise ValueError(
        f"{wanted}which streams latents themselves, but forecaster.{field} is"
        f" {value!r}: choose {other!r}{instead}"
      )


def _long(
  forecaster: Forecaster, cfg: ConfigDict, spec: LatentSpec, windows: int
) -> Forecaster:
  horizon = cfg.horizon
  if horizon.mode == "pyramid" and isinstance(forecaster, DiffusionForecaster):
    return Pyramid(forecaster, spec.tf * windows, horizon.steps_per_slot)
  return Rollout(
    forecaster, spec, windows, horizon.context_level, cfg.sampler.chunk
  )


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


def _one_call(
  name: str,
  cfg: ConfigDict,
  spec: LatentSpec,
  sizes: DenoiserConfig,
  transform: Transform,
) -> OneCallForecaster:
  fields = cfg[name]
  sizes = dataclasses.replace(sizes, condition_dim=fields.noise_dim)
  return _ONE_CALL[name](
    spec=spec,
    network=Denoiser(sizes, spec.channels),
    transform=transform,
    members=fields.members,
    norm=fields.norm,
    chunk=cfg.sampler.chunk,
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
    context_noise=cfg.flow.context_noise,
    chunk=cfg.sampler.chunk,
  )
