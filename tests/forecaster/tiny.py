"""A tiny forecaster and batch shared by the tests of this folder."""

import jax
import jax.numpy as jnp
import numpy as np

from forecasting.config import forecaster_config
from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.registry import make_forecaster

SPEC = LatentSpec(tc=2, tf=3, h=2, w=4, channels=6)


def config(**model):
  """Full-size defaults with a tiny network and short sampler."""
  cfg = forecaster_config()
  cfg.model.update(width=24, depth=2, heads=2, patch=2)
  cfg.model.update(model)
  cfg.sampler.steps = 3
  cfg.ddpm.steps = 3
  return cfg


def batch(size, spec=SPEC, seed=0):
  """Normal latents, slots 0.1 s apart."""
  rng = np.random.default_rng(seed)
  grid = (spec.h, spec.w, spec.channels)
  slots = spec.tc + spec.tf
  return {
    "context": jnp.asarray(normal(rng, size, spec.tc, *grid)),
    "future": jnp.asarray(normal(rng, size, spec.tf, *grid)),
    "times": jnp.tile(0.1 * jnp.arange(slots), (size, 1)),
  }


def normal(rng, *shape):
  """Standard normal float32; numpy's, since jax would compile each shape."""
  return rng.standard_normal(shape, np.float32)


def random_params(forecaster):
  """Parameters without zeros, so that nothing hides behind them."""
  rng = np.random.default_rng(9)
  shapes = jax.eval_shape(forecaster.init, jax.random.key(0))

  def fill(leaf):
    if leaf.ndim == 2:
      return jnp.asarray(normal(rng, *leaf.shape) / leaf.shape[0] ** 0.5)
    return jnp.asarray(0.5 + 0.3 * normal(rng, *leaf.shape))

  return jax.tree.map(fill, shapes)


def make(name="flow", spec=SPEC, stats=None, **model):
  """Returns a forecaster and parameters without zeros."""
  forecaster = make_forecaster(name, config(**model), spec, stats)
  return forecaster, random_params(forecaster)
