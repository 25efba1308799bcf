"""Names to forecasters."""

import difflib

from ml_collections import ConfigDict

from forecasting.forecaster import baselines
from forecasting.forecaster.architecture import DenoiserConfig
from forecasting.forecaster.base import Forecaster, LatentSpec
from forecasting.forecaster.ddpm import make_ddpm
from forecasting.forecaster.denoiser import Denoiser
from forecasting.forecaster.flow import make_flow
from forecasting.forecaster.regression import RegressionForecaster
from forecasting.forecaster.transforms import Statistics, make_transform

LEARNT = ("flow", "ddpm", "regression")
TRAINING_FREE = ("persistence_latent", "climatology")
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
  if name == "persistence_latent":
    return baselines.PersistenceLatent(spec)
  if name == "climatology":
    return baselines.Climatology(spec)
  network = Denoiser(DenoiserConfig(**cfg.model.to_dict()), spec.channels)
  transform = make_transform(spec, stats, **cfg.normalize.to_dict())
  if name == "regression":
    return RegressionForecaster(spec, network, transform, cfg.regression.loss)
  make = {"flow": make_flow, "ddpm": make_ddpm}[name]
  return make(cfg, spec, network, transform)
