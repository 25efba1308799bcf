"""Builds what a config describes on shapes alone, before there are latents.

Forecasters and readouts check their own settings when they are made. Made on
shapes they cost next to nothing, and say what is wrong before an extraction of
hours.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from forecasting import trainees
from forecasting.backbones import zoo
from forecasting.forecaster import registry
from forecasting.forecaster.base import LatentSpec
from forecasting.latents import manifest, pca, scales, vae
from forecasting.readouts import heads


def problems(config: ConfigDict) -> list[str]:
  """Says why forecasters, baselines or readouts of a run cannot be made.

  Args:
    config: whose single fields are in range (`value_ranges`).

  Returns:
    Problems, each once; none if the latents cannot be described, as nothing is
    where `config.latents.path` says.
  """
  path = config.latents.path
  if path is not None and not (Path(path) / "train").is_dir():
    return []
  try:
    spec = latent_spec(config)
  except manifest.ManifestError as error:
    return [f"latents.path: {error}"]
  fitting = [*_fit_problems(config, spec)]
  building = [] if fitting else [*_forecaster_problems(config, spec)]
  return [*dict.fromkeys([*fitting, *building, *_head_problems(config, spec)])]


def latent_spec(config: ConfigDict) -> LatentSpec:
  """Returns the shape that the latents of a run have, or are going to have.

  Args:
    config: of the run.

  Raises:
    ManifestError: the store in `config.latents.path` has no manifest that can
      be read.
  """
  if config.latents.path is None:
    data, backbone = config.data, zoo.get_spec(config.backbone.name)
    past = data.num_context // backbone.tubelet
    future = data.num_frames // backbone.tubelet - past
    return LatentSpec(past, future, *backbone.grid[1:], backbone.width)
  store = manifest.load(Path(config.latents.path) / "train")
  past, (slots, *grid) = store.context_shape[0], store.clip_shape
  return LatentSpec(past, slots - past, *grid)


def _fit_problems(config: ConfigDict, spec: LatentSpec) -> Iterator[str]:
  """Says what does not fit the shape of the latents."""
  cfg, grid = config.forecaster, (spec.h, spec.w)
  if any(side % cfg.model.patch for side in grid):
    yield (
      f"forecaster.model.patch = {cfg.model.patch} does not divide the latent"
      f" grid {grid}"
    )
  _, components = registry.compression(cfg.compress)
  if components > spec.channels:
    yield (
      f"forecaster.compress = {cfg.compress!r}: the latents have"
      f" {spec.channels} channels, so expected 1 to {spec.channels} components,"
      " or 'none'"
    )


def _forecaster_problems(config: ConfigDict, spec: LatentSpec) -> Iterator[str]:
  data, windows = config.data, 1
  if data.horizon_frames:
    added = data.num_frames - data.num_context
    windows = (data.horizon_frames - data.num_context) // added
  free = [name for name in config.baselines if name in registry.TRAINING_FREE]
  for name in (*config.forecasters, *free):
    try:
      _make(name, config.forecaster, spec, 1 if name in free else windows)
    except ValueError as error:
      yield str(error)


def _make(name: str, cfg: ConfigDict, spec: LatentSpec, windows: int) -> None:
  """Makes a forecaster without computing anything."""

  def make(statistics: scales.Scales) -> tuple[()]:
    registry.make_forecaster(name, cfg, spec, statistics, windows)
    return ()

  jax.eval_shape(make, statistics(cfg, spec))


def statistics(cfg: ConfigDict, spec: LatentSpec) -> scales.Scales:
  """Returns shapes of what `compression.statistics` is going to return.

  Args:
    cfg: `config.forecaster`.
    spec: of the latents.
  """
  kind, components = registry.compression(cfg.compress)

  def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)

  codec = None
  if components:
    codec = pca.Pca(
      basis=shape(spec.channels, components),
      center=shape(spec.channels),
      deviation=shape(components),
      total=shape(),
    )
  if kind == "vae":
    make_weights = functools.partial(
      vae.init_weights, width=cfg.vae.width, kl_weight=cfg.vae.kl_weight
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    codec = vae.Vae(codec, jax.eval_shape(make_weights, codec, key=key))
  size = components or spec.channels
  slots = spec.tc + spec.tf
  element = shape(slots, spec.h, spec.w, size)
  return scales.Scales(
    mean=shape(size),
    std=shape(size),
    time_mean=shape(slots, size),
    time_std=shape(slots, size),
    residual_mean=shape(spec.tf, size),
    residual_std=shape(spec.tf, size),
    element_mean=element,
    element_std=element,
    linear_factor=shape(spec.tf, size),
    linear_std=shape(spec.tf, size),
    codec=codec,
  )


def _head_problems(config: ConfigDict, spec: LatentSpec) -> Iterator[str]:
  if config.readout.from_run:
    return
  for task in config.tasks:
    try:
      head = trainees.make_head(
        task, config.readout, config.data, (spec.h, spec.w)
      )
      if isinstance(head, heads.DenseHead):
        # Counting them finds patches that do not tile the clip.
        _ = head.num_queries
    except ValueError as error:
      yield str(error)
