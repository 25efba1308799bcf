"""The transformer: masks, cache, positions, counts."""

import dataclasses

import einops
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from forecasting.forecaster import attention, count
from forecasting.forecaster.architecture import DenoiserConfig
from forecasting.forecaster.denoiser import Denoiser

SPEC = tiny.SPEC
VARIANTS = [
  {},
  {"attention": "factorized"},
  {"conditioning": "joint_full"},
  {"conditioning": "cross"},
  {"conditioning": "cross", "attention": "factorized", "head_width": 36},
]


def _inputs(samples=2, size=2):
  data = tiny.batch(size)
  shape = (size, samples, SPEC.tf, SPEC.h, SPEC.w, SPEC.channels)
  rng = np.random.default_rng(3)
  z = jnp.asarray(tiny.normal(rng, *shape))
  t = jnp.asarray(rng.uniform(size=shape[:3]).astype(np.float32))
  return data["context"], z, t, data["times"]


def _rms(x):
  return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)


def _masked_reference(params, cfg, context, z, t, times):
  """The joint network as one stream under a block mask, for one sample."""
  p = params["params"]
  dense = lambda name, x: x @ p[name]["kernel"] + p[name].get("bias", 0.0)  # noqa: E731
  tokens = lambda x: einops.rearrange(  # noqa: E731
    x, "b t (h p) (w q) c -> b t (h w) (p q c)", p=cfg.patch, q=cfg.patch
  )
  rates = np.geomspace(1, 1000, 64)
  levels = jnp.concatenate([jnp.zeros(context.shape[:2]), t], 1)[..., None]
  features = jnp.concatenate(
    [jnp.cos(levels * rates), jnp.sin(levels * rates)], -1
  )
  mlp = p["noise_mlp"]
  noise = jax.nn.silu(
    features @ mlp["layers_0"]["kernel"] + mlp["layers_0"]["bias"]
  )
  noise = noise @ mlp["layers_2"]["kernel"] + mlp["layers_2"]["bias"]
  noise = jax.nn.silu(noise)[:, :, None]
  past = dense("context_in", tokens(context)) + p["context_type"]
  future = dense("target_in", tokens(z)) + p["target_type"]
  x = jnp.concatenate([past, future], 1)
  b, slots, n, width = x.shape
  is_future = jnp.repeat(jnp.arange(slots) >= context.shape[1], n)
  allowed = is_future[:, None] | ~is_future[None]
  angles = attention.rotary_angles(times, 1, 2, cfg.head_dim)
  for i in range(cfg.depth):
    block = p[f"blocks_{i}"]
    modulation = dense("modulation", noise) + p["tables"][i]
    s1, c1, g1, s2, c2, g2 = jnp.split(modulation, 6, -1)
    qkv = (_rms(x) * (1 + c1) + s1) @ block["qkv"]["kernel"]
    q, k, v = jnp.split(qkv.reshape(b, 1, slots, n, 3 * cfg.heads, -1), 3, -2)
    q = attention.rotate(_rms(q) * block["q_scale"], angles)
    k = attention.rotate(_rms(k) * block["k_scale"], angles)
    q, k, v = (a.reshape(b, slots * n, cfg.heads, -1) for a in (q, k, v))
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(cfg.head_dim)
    weights = jax.nn.softmax(jnp.where(allowed, logits, -jnp.inf), -1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(
      b, slots, n, width
    )
    x += g1 * (mixed @ block["out"]["kernel"])
    value, gate = jnp.split(
      (_rms(x) * (1 + c2) + s2) @ block["mlp_in"]["kernel"], 2, -1
    )
    x += g2 * ((value * jax.nn.silu(gate)) @ block["mlp_out"]["kernel"])
  x, noise = x[:, context.shape[1] :], noise[:, context.shape[1] :]
  shift, scale = jnp.split(dense("out_modulation", noise), 2, -1)
  out = dense("out_proj", _rms(x) * (1 + scale) + shift)
  return einops.rearrange(
    out,
    "b t (h w) (p q c) -> b t (h p) (w q) c",
    w=2,
    p=cfg.patch,
    q=cfg.patch,
  )


def test_two_streams_equal_one_stream_under_a_block_mask():
  forecaster, params = tiny.make()
  context, z, t, times = _inputs()
  out = jax.jit(forecaster.network.apply)(params, context, z, t, times)
  reference = jax.jit(_masked_reference, static_argnums=1)
  for sample in range(z.shape[1]):
    expected = reference(
      params,
      forecaster.network.config,
      context,
      z[:, sample],
      t[:, sample],
      times,
    )
    np.testing.assert_allclose(out[:, sample], expected, atol=2e-5)


def test_context_keys_ignore_targets():
  forecaster, params = tiny.make()
  context, z, t, times = _inputs(samples=1, size=1)

  def keys_and_values(z, context):
    _, state = forecaster.network.apply(
      params,
      context,
      z,
      t,
      times,
      capture_intermediates=lambda _, method: method == "encode_context",
    )
    cache = state["intermediates"]["encode_context"][0]
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(cache)])

  to_z, to_context = jax.jit(jax.jacrev(keys_and_values, (0, 1)))(z, context)
  assert np.all(np.asarray(to_z) == 0)
  assert np.any(np.asarray(to_context) != 0)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_cache_and_sample_axis_change_nothing(variant):
  forecaster, params = tiny.make(**variant)
  context, z, t, times = _inputs(samples=3)

  @jax.jit
  def cached(params):
    cache = forecaster.encode_context(params, context, times)
    return forecaster.denoise(params, cache, z, t, times)

  @jax.jit
  def uncached(params):
    repeat = lambda x: jnp.repeat(x, 3, axis=0)  # noqa: E731
    flat = lambda x: einops.rearrange(x, "B S ... -> (B S) 1 ...")  # noqa: E731
    out = forecaster.network.apply(
      params, repeat(context), flat(z), flat(t), repeat(times)
    )
    return einops.rearrange(out, "(B S) 1 ... -> B S ...", S=3)

  np.testing.assert_allclose(cached(params), uncached(params), atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_part_of_the_past_reaches_the_answer(variant):
  forecaster, params = tiny.make(**variant)
  context, z, t, times = _inputs(samples=1, size=1)
  apply = jax.jit(forecaster.network.apply)
  out = apply(params, context, z, t, times)
  for slot in range(SPEC.tc):
    changed = apply(params, context.at[:, slot].add(1.0), z, t, times)
    assert np.abs(changed - out).max() > 1e-4
  changed = apply(params, context, z, t.at[0, 0, 1].set(0.99), times)
  assert np.abs(changed - out)[:, :, 1].max() > 1e-4


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=str)
def test_positions_are_relative_in_time(variant):
  forecaster, params = tiny.make(**variant)
  context, z, t, times = _inputs()
  apply = jax.jit(forecaster.network.apply)
  out = apply(params, context, z, t, times)
  shifted = apply(params, context, z, t, times + 0.5)
  scaled = apply(params, context, z, t, times * 3)
  assert np.abs(shifted - out).max() < 1e-5
  assert np.abs(scaled - out).max() > 1e-3


def test_rotation_keeps_norms_and_leaves_a_slice():
  x = tiny.normal(np.random.default_rng(0), 1, 1, 2, 4, 1, 48)
  angles = attention.rotary_angles(jnp.array([[0.0, 0.3]]), 2, 2, 48)
  turned = attention.rotate(x, angles)
  np.testing.assert_allclose(
    jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5
  )
  np.testing.assert_array_equal(turned[..., 42:], x[..., 42:])
  assert np.all(np.asarray(turned != x)[..., 1, :, 0, 0])
  for head_dim in (16, 32, 48, 64, 128):
    rest = head_dim - 6 * attention.frequencies_per_axis(head_dim)
    assert 4 <= rest <= 8


def _dot_flops(jaxpr):
  """Counts multiply-adds of every dot_general of a traced function, twice."""
  total = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      ((contracted, _), _) = eqn.params["dimension_numbers"]
      shape = eqn.invars[0].aval.shape
      depth = np.prod([shape[axis] for axis in contracted], dtype=int)
      total += 2 * depth * np.prod(eqn.outvars[0].aval.shape, dtype=int)
    for value in eqn.params.values():
      if isinstance(value, jax.extend.core.ClosedJaxpr):
        total += _dot_flops(value.jaxpr)
  return int(total)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_counts_match_the_network(variant):
  forecaster, params = tiny.make(**variant)
  cfg = forecaster.network.config
  number = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert count.count_parameters(cfg, SPEC.channels) == number
  context, z, t, times = _inputs(samples=1, size=1)
  flops = count.count_flops(cfg, SPEC)
  inputs = (params, context, times)
  cache = jax.eval_shape(forecaster.encode_context, *inputs)
  encode = jax.make_jaxpr(forecaster.encode_context)(*inputs)
  call = jax.make_jaxpr(forecaster.denoise)(params, cache, z, t, times)
  assert _dot_flops(encode.jaxpr) == flops.context
  assert _dot_flops(call.jaxpr) == flops.call


def test_counts_by_hand():
  # Width 24, 2 heads of 12, token 6 * 2 * 2 = 24, SwiGLU 64, 2 tokens a slot.
  cfg = DenoiserConfig(width=24, depth=2, heads=2, patch=2)
  embeddings = 2 * (24 * 24 + 24) + 3 * 24
  noise = (128 * 24 + 24) + (24 * 24 + 24)
  modulation = (24 * 144 + 144) + 2 * 144
  block = 24 * 72 + 24 * 24 + 24 * 128 + 64 * 24 + 2 * 12
  out = (24 * 48 + 48) + (24 * 24 + 24)
  assert count.count_parameters(cfg, 6) == (
    embeddings + noise + modulation + 2 * block + out
  )
  # 3 slots of 2 tokens look at 5 slots: 6 queries, 10 keys.
  per_token = 2 * (4 * 24 * 24 + 3 * 24 * 64)
  call = 2 * 6 * 24 * 24 + 3 * 2 * (128 * 24 + 24 * 24 + 24 * 144)
  call += 2 * (6 * per_token + 4 * 24 * 6 * 10)
  call += 3 * 2 * 24 * 48 + 2 * 6 * 24 * 24
  assert count.count_flops(cfg, SPEC).call == call


def test_reference_size_of_base():
  base = DenoiserConfig(
    width=1024, depth=16, heads=16, head_width=2048, head_depth=2
  )
  assert count.count_parameters(base, 1792) == pytest.approx(0.35e9, rel=0.05)


@pytest.mark.parametrize(
  ("change", "field"),
  [
    ({"conditioning": "none"}, "conditioning"),
    ({"attention": "window"}, "attention"),
    ({"dtype": "float16"}, "dtype"),
    ({"remat": "some"}, "remat"),
    ({"scan": "some"}, "scan"),
    ({"heads": 5}, "heads"),
    ({"heads": 4}, "at least 10"),
    ({"head_width": 30}, "head_width"),
  ],
)
def test_wrong_fields_are_named(change, field):
  fields = {"width": 24, "depth": 2, "heads": 2} | change
  with pytest.raises(ValueError, match=field):
    DenoiserConfig(**fields)


@pytest.mark.parametrize(
  "remat", ["dots", pytest.param("full", marks=pytest.mark.slow)]
)
def test_what_blocks_keep_does_not_change_gradients(remat):
  def gradients(choice):
    forecaster, params = tiny.make(remat=choice)
    batch = tiny.batch(2) | {"mask": jnp.ones(2, bool)}

    def loss(params):
      return forecaster.loss(params, batch, jax.random.key(0))[0].sum()

    gradient = jax.grad(loss)
    return str(jax.make_jaxpr(gradient)(params)), jax.jit(gradient)(params)

  (kept, expected), (again, found) = gradients("none"), gradients(remat)
  assert "remat" in again and "remat" not in kept
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    found,
    expected,
  )


@pytest.mark.parametrize(
  "depth", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5))]
)
@pytest.mark.parametrize(
  "variant",
  [
    VARIANTS[0],
    *(pytest.param(other, marks=pytest.mark.slow) for other in VARIANTS[1:-1]),
    VARIANTS[-1],
  ],
)
def test_blocks_in_a_loop_do_what_blocks_in_turn_do(variant, depth):
  context, z, t, times = _inputs()
  base = DenoiserConfig(width=24, depth=depth, heads=2, **variant)

  def run(scan, params=None):
    config = dataclasses.replace(base, scan=scan)
    network = Denoiser(config, SPEC.channels)
    if params is None:
      return jax.jit(network.init)(jax.random.key(0), context, z, t, times)

    def loss(params):
      return jnp.square(network.apply(params, context, z, t, times)).sum()

    program = str(jax.make_jaxpr(loss)(params))
    return "scan[" in program, jax.jit(jax.value_and_grad(loss))(params)

  params = run("never")
  jax.tree.map(np.testing.assert_array_equal, run("always"), params)
  # At initialization blocks do nothing.
  rng = np.random.default_rng(5)
  params = jax.tree.map(lambda x: x + 0.1 * tiny.normal(rng, *x.shape), params)
  in_turn, expected = run("never", params)
  in_loop, found = run("always", params)
  period = 2 if variant.get("attention") == "factorized" else 1
  assert not in_turn and in_loop == (depth > period)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max())
    ),
    found,
    expected,
  )


def test_patch_must_divide_the_grid():
  forecaster, params = tiny.make()
  config = dataclasses.replace(forecaster.network.config, patch=3)
  context, z, t, times = _inputs()
  with pytest.raises(ValueError, match=r"model\.patch 3"):
    Denoiser(config, SPEC.channels).apply(params, context, z, t, times)


def test_bfloat16_stays_close():
  exact, params = tiny.make()
  rough, _ = tiny.make(dtype="bfloat16")
  context, z, t, times = _inputs()
  outs = [
    jax.jit(forecaster.network.apply)(params, context, z, t, times)
    for forecaster in (exact, rough)
  ]
  assert outs[1].dtype == jnp.float32
  error = np.abs(outs[1] - outs[0]).mean() / np.abs(outs[0]).mean()
  assert 0 < error < 0.05
