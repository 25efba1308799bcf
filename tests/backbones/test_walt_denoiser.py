"""The transformer against a loop over tokens, and its size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones.walt_denoiser import (
  Denoiser,
  DenoiserConfig,
  relative_offsets,
)

CONFIG = DenoiserConfig(
  grid=(3, 4, 4),
  tube=(2, 2),
  width=8,
  depth=2,
  heads=2,
  mlp_dim=12,
  rank=2,
  channels=3,
)


@pytest.fixture(scope="module")
def params():
  """Random parameters without zeros or ones."""
  inputs = (jnp.zeros((1, 3, 4, 4, 3)), jnp.zeros(1, int), jnp.zeros((1, 2, 5)))
  shapes = jax.eval_shape(Denoiser(CONFIG).init, jax.random.key(0), *inputs)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: rng.normal(0.0, 0.5, leaf.shape).astype(np.float32),
    shapes["params"],
  )


def _inputs(slots=3, seed=1):
  rng = np.random.default_rng(seed)
  noisy = rng.normal(size=(1, slots, 4, 4, 3)).astype(np.float32)
  text = rng.normal(size=(1, 2, 5)).astype(np.float32)
  return jnp.array(noisy), jnp.array([200]), jnp.array(text)


@jax.jit
def _run(params, noisy, level, text, **signals):
  """Tokens after each of the two layers, and the velocity."""
  network = Denoiser(CONFIG).bind({"params": params})
  return (
    *(
      network.features(noisy, level, text, num_blocks, **signals)
      for num_blocks in (1, 2)
    ),
    network(noisy, level, text, **signals),
  )


def test_relative_offsets_of_few_slots_are_those_of_many():
  window = (3, 2, 2)
  full, few = relative_offsets(3, window), relative_offsets(2, window)
  np.testing.assert_array_equal(full[:8, :8], few)
  # Query (0, 0, 0), key (2, 1, 1): the least offset along every axis.
  assert full[0, 11] == 0
  assert full[11, 0] == 5 * 3 * 3 - 1
  assert len(np.unique(full)) == 5 * 3 * 3


# The same transformer token by token, in float64.


def _norm(x, p=None):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  return x * p["scale"] + p["bias"] if p else x


def _silu(x):
  return x / (1.0 + np.exp(-x))


def _dense(x, p):
  return x @ p["kernel"] + p.get("bias", 0.0)


def _attend(x, sees, p, text=None, window=None):
  """Attention of tokens {place: [D]} to those that `sees(place, other)`."""
  out = {}
  for place, token in x.items():
    others = [other for other in x if sees(place, other)]
    sources = [x[other] for other in others] + list(
      [] if text is None else text
    )
    mixed = 0.0
    for head in range(2):
      q, *keys = (
        _norm(
          vector @ p[name]["kernel"][:, head] + p[name]["bias"][head],
          p[f"{name}_norm"],
        )
        for name, vectors in (("query", [token]), ("key", sources))
        for vector in vectors
      )
      logits = np.array([q @ key / np.sqrt(4) for key in keys])
      if window:
        logits += [
          p["relative_biases"][
            tuple(np.subtract(place, other) + np.array(window) - 1)
          ][head]
          for other in others
        ]
      weights = np.exp(logits) / np.exp(logits).sum()
      values = [
        v @ p["value"]["kernel"][:, head] + p["value"]["bias"][head]
        for v in sources
      ]
      mixed = mixed + (weights @ values) @ p["out"]["kernel"][head]
    out[place] = mixed + p["out"]["bias"]
  return out


def _reference(params, noisy, level, text, estimate, past, is_past):
  p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  # Angles of hundreds, rounded as the network's are.
  rates = np.float32(1e4) ** (-np.arange(128, dtype=np.float32) / 128)
  angles = (np.float32(level) * rates).astype(np.float64)
  waves = np.concatenate([np.cos(angles), np.sin(angles)])
  level = _dense(_silu(_dense(waves, p["level_in"])), p["level_out"])
  shared = _dense(_silu(level), p["modulation"])
  text = _dense(text, p["text_projection"])
  x = {}
  for t, i, j in np.ndindex(noisy.shape[:3]):
    given = past[t, i, j] if is_past[t] else np.zeros(3)
    inputs = [noisy[t, i, j], estimate[t, i, j], given, [float(is_past[t])]]
    x[t, i, j] = (
      _dense(np.concatenate(inputs), p["input_projection"])
      + p["spatial_positions"][4 * i + j]
      + p["temporal_positions"][t]
    )
  same_slot = lambda a, b: a[0] == b[0]  # noqa: E731
  same_tube = lambda a, b: a[1] // 2 == b[1] // 2 and a[2] // 2 == b[2] // 2  # noqa: E731
  for n in range(2):
    q = p[f"layers_{n}"]
    parts = (
      shared
      + level @ q["modulation_down"]["kernel"] @ (q["modulation_up"]["kernel"])
    )
    scale, shift, gate, scale2, shift2, gate2 = parts.reshape(6, 8)
    inner = {k: _norm(v) * (1 + scale) + shift for k, v in x.items()}
    sees, window = ((same_slot, (1, 4, 4)), (same_tube, (3, 2, 2)))[n]
    inner = _attend(inner, sees, q["attention"], None, window)
    x = {k: v + gate * inner[k] for k, v in x.items()}
    inner = {k: _norm(v, q["cross_norm"]) for k, v in x.items()}
    inner = _attend(inner, same_slot, q["cross_attention"], text)
    x = {k: v + inner[k] for k, v in x.items()}
    for k, v in x.items():
      y = _dense(_norm(v) * (1 + scale2) + shift2, q["mlp"]["dense_in"])
      y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
      x[k] = v + gate2 * _dense(y, q["mlp"]["dense_out"])
  features = np.stack(list(x.values())).reshape(*noisy.shape[:3], 8)
  scale, shift = _dense(_silu(level), p["output_modulation"]).reshape(2, 8)
  inner = _norm(features) * (1 + scale) + shift
  return features, _dense(inner, p["output_projection"])


@pytest.mark.parametrize("slots", [3, 2])
def test_agrees_with_float64(params, slots):
  noisy, level, text = _inputs(slots)
  estimate, past = (np.asarray(_inputs(slots, seed)[0]) for seed in (2, 3))
  is_past = np.arange(slots) < 1
  signals = {
    "estimate": jnp.array(estimate),
    "past": jnp.array(past),
    "is_past": jnp.array(is_past)[None],
  }
  features, velocity = _reference(
    params,
    np.asarray(noisy)[0],
    200,
    np.asarray(text)[0],
    estimate[0],
    past[0],
    is_past,
  )
  _, tokens, result = _run(params, noisy, level, text, **signals)
  np.testing.assert_allclose(tokens[0], features, atol=2e-5 * features.std())
  np.testing.assert_allclose(result[0], velocity, atol=1e-4 * velocity.std())


def test_slots_mix_in_tubes_only(params):
  noisy, level, text = _inputs()
  changed = noisy.at[0, 2, 0, 0].add(1.0)
  before, after = (_run(params, z, level, text) for z in (noisy, changed))
  for num_layers, mixes in ((1, False), (2, True)):
    moved = after[num_layers - 1] - before[num_layers - 1]
    moved = np.abs(moved).max(-1)[0]
    # A spatial layer reaches the whole slot and no other.
    assert (moved[2] > 1e-4).all()
    assert (moved[:2, :2, :2] > 1e-4).any() == mixes


def test_latents_that_are_not_past_do_not_enter(params):
  noisy, level, text = _inputs()
  past, is_past = jnp.ones_like(noisy), jnp.array([[True, False, False]])

  def run(past, is_past):
    signals = {"estimate": noisy, "past": past, "is_past": is_past}
    return np.asarray(_run(params, noisy, level, text, **signals)[-1])

  result = run(past, is_past)
  np.testing.assert_array_equal(run(past.at[:, 1:].set(9.0), is_past), result)
  assert np.abs(run(past, ~is_past) - result).max() > 0.1


def test_parameters_of_the_paper():
  # Its class-conditional model of the same sizes has 313, 314, 316, 324 and 357
  # million parameters for these ranks (arXiv 2312.06662).
  config = DenoiserConfig((5, 16, 16), (8, 8), 1024, 2, 16, 4096, rank=2)
  shapes = jax.eval_shape(
    Denoiser(config).init,
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 5, 16, 16, 8), jnp.float32),
    jax.ShapeDtypeStruct((1,), jnp.int32),
    jax.ShapeDtypeStruct((1, 1, 2048), jnp.float32),
  )["params"]
  layers = [shapes.pop(f"layers_{i}") for i in range(2)] * 12
  num = lambda *trees: sum(x.size for x in jax.tree.leaves(trees))  # noqa: E731
  # A table of 101 classes takes the place of the text.
  count = num(shapes) - num(shapes["text_projection"]) + 101 * 1024
  low_rank = 0
  for layer in layers:
    low_rank += num(layer["modulation_down"], layer["modulation_up"])
    count += num(layer) - num(layer["cross_attention"], layer["cross_norm"])
  found = {
    rank: round((count + low_rank * (rank - 2) // 2) / 1e6)
    for rank in (2, 4, 16, 64, 256)
  }
  assert found == {2: 313, 4: 314, 16: 316, 64: 324, 256: 357}
