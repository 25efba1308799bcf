"""Every switch of the config changes what it says, and nothing else."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from forecasting.forecaster import (
  compressed,
  diffusion,
  ensemble,
  pyramid,
  registry,
  residual,
  rollout,
)
from forecasting.latents import pca, vae

SPEC = tiny.SPEC


def _statistics(compress="none"):
  """Statistics of all kinds, none of them trivial."""
  rng = np.random.default_rng(0)
  kind, components = registry.compression(compress)
  channels = components or SPEC.channels
  slots, grid = SPEC.tc + SPEC.tf, (SPEC.h, SPEC.w)

  def positive(*shape):
    return np.float32(rng.uniform(0.5, 2.0, shape))

  codec = None
  if components:
    full = np.linalg.qr(rng.normal(size=(SPEC.channels, SPEC.channels)))[0]
    basis = full[:, :components].astype(np.float32)
    moments = positive(SPEC.channels), positive(components), positive()
    codec = pca.Pca(basis, *moments)
  if kind == "vae":
    weights = vae.init_weights(codec, 8, 1e-3, jax.random.key(0))
    codec = vae.Vae(codec, weights)
  return types.SimpleNamespace(
    mean=positive(channels),
    std=positive(channels),
    time_mean=positive(slots, channels),
    time_std=positive(slots, channels),
    residual_std=positive(SPEC.tf, channels),
    element_mean=positive(slots, *grid, channels),
    element_std=positive(slots, *grid, channels),
    linear_factor=positive(SPEC.tf, channels),
    linear_std=positive(SPEC.tf, channels),
    codec=codec,
  )


def _config(**fields):
  cfg = tiny.config()
  cfg.flow.context_dropout = 0.0
  cfg.update_from_flattened_dict(fields)
  return cfg


def _parts(forecaster):
  """Types of a forecaster and of those within it, outermost first."""
  found = [type(forecaster)]
  while hasattr(forecaster, "inner"):
    forecaster = forecaster.inner
    found.append(type(forecaster))
  return found


FLOW = diffusion.DiffusionForecaster
BUILT = {
  "residual_model": (
    {"normalize.target_transform": "residual_model"},
    [residual.ResidualForecaster, FLOW],
  ),
  "pca": ({"compress": "pca(4)"}, [compressed.CompressedForecaster, FLOW]),
  "vae": ({"compress": "vae(4)"}, [compressed.CompressedForecaster, FLOW]),
  "ensemble": ({"ensemble": 2}, [ensemble.DeepEnsemble, FLOW]),
  "rollout": ({}, [rollout.Rollout, FLOW]),
  "pyramid": (
    {"horizon.mode": "pyramid", "flow.rolling": 0.5},
    [pyramid.Pyramid, FLOW],
  ),
  "all": (
    {
      "normalize.target_transform": "residual_model",
      "compress": "vae(4)",
      "ensemble": 2,
    },
    [
      ensemble.DeepEnsemble,
      rollout.Rollout,
      compressed.CompressedForecaster,
      residual.ResidualForecaster,
      FLOW,
    ],
  ),
}


@pytest.mark.parametrize(
  "case",
  [
    pytest.param(case, marks=[pytest.mark.slow] if case == "all" else [])
    for case in BUILT
  ],
)
def test_what_is_built_around_a_forecaster(case):
  fields, types_ = BUILT[case]
  cfg = _config(**fields)
  stats = _statistics(cfg.compress)
  windows = 3 if case in ("rollout", "pyramid", "all") else 1
  forecaster = registry.make_forecaster("flow", cfg, SPEC, stats, windows)
  assert _parts(forecaster) == types_
  params = jax.eval_shape(forecaster.init, jax.random.key(0))
  trained = registry.make_forecaster("flow", cfg, SPEC, stats)
  data = tiny.batch(2)
  losses, aux = jax.eval_shape(trained.loss, params, data, jax.random.key(0))
  assert losses.shape == (2,) and all(x.shape == () for x in aux.values())
  slots = SPEC.tc + windows * SPEC.tf
  times = jnp.tile(0.1 * jnp.arange(slots), (2, 1))
  keys = jax.random.split(jax.random.key(0), 2)
  out = jax.eval_shape(
    lambda p: forecaster.sample(p, data["context"], times, keys, 3), params
  )
  grid = (SPEC.h, SPEC.w, SPEC.channels)
  assert out.shape == (2, 3, windows * SPEC.tf, *grid)
  assert forecaster.name == "flow" and forecaster.trainable


def test_deterministic_forecasts_are_left_where_there_is_no_choice():
  cfg = _config(**{"normalize.target_transform": "residual_model"})
  for name in ("regression", "masked"):
    forecaster = registry.make_forecaster(name, cfg, SPEC, None)
    assert _parts(forecaster)[1:] == []
  cfg = _config(**{"horizon.mode": "pyramid"})
  forecaster = registry.make_forecaster("energy", cfg, SPEC, None, 2)
  assert isinstance(forecaster, rollout.Rollout)


@pytest.mark.parametrize(
  ("width", "channels", "head"), [(24, 6, 0), (24, 300, 516), (48, 12, 0)]
)
def test_head_is_as_wide_as_tokens_where_the_trunk_is_not(
  width, channels, head
):
  cfg = _config(**{"model.head_width": -1, "model.width": width})
  cfg.model.patch = 1
  assert registry._sizes(cfg.model, channels).head_width == head


@pytest.mark.parametrize(
  "compress", ["pca", "pca(0)", "pca(-2)", "vae", "vae(0)", "ae(4)", "none(3)"]
)
def test_unknown_compression_is_refused(compress):
  with pytest.raises(ValueError, match=r"forecaster\.compress"):
    registry.compression(compress)


@pytest.mark.parametrize(
  ("compress", "others"),
  [("pca(4)", ["pca(3)", "vae(4)"]), ("vae(4)", ["vae(3)", "pca(4)"])],
)
def test_compression_needs_its_codec(compress, others):
  cfg = _config(compress=compress)
  for stats in (None, *map(_statistics, others)):
    with pytest.raises(ValueError, match="compute_scales"):
      registry.make_forecaster("flow", cfg, SPEC, stats)
  assert registry.needs_scales(cfg) and not registry.needs_scales(_config())


# Switches that leave the parameters as they are: the loss has to change.
LOSSES = {
  "flow.prediction": "edm",
  "flow.loss_space": "x0",
  "flow.shift": "3",
  "flow.noise_multiplicity": 2,
  "flow.context_noise": 0.2,
  "flow.context_dropout": 1.0,
  "flow.rolling": 1.0,
  "flow.even_share": 1.0,
  "normalize.stats": "per_element",
  "normalize.target_transform": "residual_linear",
  "model.conditioning": "joint_full",
  "model.attention": "factorized",
}
# Switches that change the parameters.
SHAPES = {
  "model.qk_norm": False,
  "model.head_width": 24,
  "model.conditioning": "cross",
  "compress": "pca(4)",
  "normalize.target_transform": "residual_model",
  "ensemble": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize("field", LOSSES)
def test_switch_changes_the_loss(field, plain_loss):
  found = _loss(_config(**{field: LOSSES[field]}))
  assert np.all(np.isfinite(found))
  assert np.all(np.abs(found / plain_loss - 1) > 1e-4)


@pytest.fixture(scope="module", name="plain_loss")
def fixture_plain_loss():
  return _loss(_config())


def _loss(cfg, name="flow"):
  forecaster = registry.make_forecaster(name, cfg, SPEC, _statistics())
  params = tiny.random_params(forecaster)
  loss = jax.jit(forecaster.loss)(params, tiny.batch(3), jax.random.key(1))
  return np.asarray(loss[0])


@pytest.mark.parametrize("field", SHAPES)
def test_switch_changes_the_parameters(field):
  shapes = []
  for cfg in (_config(), _config(**{field: SHAPES[field]})):
    stats = _statistics(cfg.compress)
    forecaster = registry.make_forecaster("flow", cfg, SPEC, stats)
    shapes.append(jax.eval_shape(forecaster.init, jax.random.key(0)))
  assert jax.tree.structure(shapes[0]) != jax.tree.structure(shapes[1]) or (
    jax.tree.leaves(shapes[0]) != jax.tree.leaves(shapes[1])
  )


@pytest.mark.parametrize(
  ("fields", "calls"),
  [
    ({"name": "euler"}, 3),
    ({"name": "heun"}, 5),
    ({"grid": "uniform"}, 3),
    ({"grid": "edm", "rho": 3.0}, 3),
    ({"steps": 4}, 4),
    ({"name": "sde", "churn": 1.0}, 5),
    ({"name": "sde", "churn": 1.0, "noise_inflation": 1.05}, 5),
    ({"name": "ddim", "eta": 0.5}, 3),
    ({"t_min": 0.02}, 3),
  ],
)
def test_switch_of_the_sampler_changes_its_table(fields, calls):
  def table(**fields):
    cfg = _config()
    cfg.sampler.update(fields)
    return registry.make_forecaster("flow", cfg, SPEC, None).table

  # Inflation is compared with the same sampler without it.
  base = {"name": "sde", "churn": 1.0} if "noise_inflation" in fields else {}
  old, new = table(**base), table(**fields)
  assert len(new.times) == calls
  assert new.coefficients.shape != old.coefficients.shape or not np.allclose(
    new.coefficients, old.coefficients
  )


@pytest.mark.parametrize(
  ("fields", "word"),
  [
    ({"churn": 1.0}, "sampler.churn is 1.0.*'dpmpp_2m'"),
    ({"eta": 0.5, "name": "heun"}, "sampler.eta is 0.5.*'heun'"),
    ({"noise_inflation": 1.05}, "sampler.noise_inflation is 1.05"),
    (
      {"noise_inflation": 1.05, "name": "sde"},
      "sampler.noise_inflation is 1.05.*'sde' with",
    ),
  ],
)
def test_switch_that_the_sampler_ignores_is_refused(fields, word):
  cfg = _config()
  cfg.sampler.update(fields)
  with pytest.raises(ValueError, match=rf"forecaster\.{word}"):
    registry.make_forecaster("flow", cfg, SPEC, None)
  # The sampler is that of `flow`.
  registry.make_forecaster("ddpm", cfg, SPEC, None)


def test_eta_of_the_ancestral_sampler_is_refused():
  cfg = _config(**{"ddpm.sampler": "ancestral", "ddpm.eta": 0.5})
  with pytest.raises(ValueError, match=r"forecaster\.ddpm\.eta is 0\.5"):
    registry.make_forecaster("ddpm", cfg, SPEC, None)


@pytest.mark.parametrize(
  ("name", "field", "value"),
  [
    ("ddpm", "flow.context_noise", 0.5),
    ("ddpm", "flow.noise_multiplicity", 2),
    ("shortcut", "flow.context_noise", 0.5),
    pytest.param("shortcut", "flow.shift", "3", marks=pytest.mark.slow),
  ],
)
def test_switches_of_flow_that_others_heed_change_their_loss(
  name, field, value
):
  before, after = (
    _loss(_config(**fields), name) for fields in ({}, {field: value})
  )
  assert np.all(np.isfinite(after))
  assert np.all(np.abs(after / before - 1) > 1e-4)


def test_tokens_keep_their_size_beside_a_large_constant():
  """Of latents along one direction, norms leave what tells them apart."""
  ratios = []
  for scale in (0.02, 4.0):
    cfg = _config(**{"model.type_scale": scale, "model.patch": 1})
    forecaster = registry.make_forecaster("flow", cfg, SPEC, None)
    params = jax.jit(forecaster.init)(jax.random.key(0))["params"]
    tokens = np.outer([1.0, 2.0], np.ones(SPEC.channels))
    tokens = tokens @ params["target_in"]["kernel"] + params["target_type"]
    one, two = tokens / np.sqrt((tokens**2).mean(-1, keepdims=True))
    ratios.append(np.linalg.norm(two - one) / np.linalg.norm(one))
  assert ratios[0] < 0.02 < 0.1 < ratios[1]
