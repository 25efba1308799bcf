"""The attention readout against a loop in numpy that shares no code with it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from forecasting.readouts.attention import (
  AttentionReadout,
  Trunk,
  attend,
  attend_in_chunks,
)

NUM_CLASSES, SIZES = 5, {"width": 8, "num_heads": 2}
BATCH, FRAMES, TOKENS, CHANNELS = 2, 3, 4, 6


def make(num_queries=0, **choices):
  trunk = Trunk(**SIZES, **choices)
  return AttentionReadout(NUM_CLASSES, trunk, num_queries=num_queries)


def features(seed=0):
  shape = (BATCH, FRAMES, TOKENS, CHANNELS)
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_params(module, *args):
  """Parameters without a zero or a one, so that each of them matters."""
  rng = np.random.default_rng(7)
  shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
  return jax.tree.map(
    lambda x: rng.normal(size=x.shape, scale=0.5).astype(np.float32), shapes
  )


def norm(x, params):
  mean = sum(x) / len(x)
  variance = sum((v - mean) ** 2 for v in x) / len(x)
  x = (x - mean) / math.sqrt(variance + 1e-6)
  return x * params["scale"] + params["bias"]


def dense(x, params):
  return x @ params["kernel"] + params["bias"]


def gelu(x):
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  return 0.5 * x * (1 + np.tanh(inner))


def expected_vector(clip, query, params, last):
  """The result for one clip and one query of [heads, width of a head]."""
  rows = [
    norm(token, params["LayerNorm_0"])
    + params["temporal_posenc"]["embeddings"][frame, 0]
    for frame, tokens in enumerate(clip)
    for token in tokens
  ]
  attended = []
  for head, q in enumerate(query):
    keys, values = (
      [
        row @ params[name]["kernel"][:, head] + params[name]["bias"][head]
        for row in rows
      ]
      for name in ("key_embedding", "value_embedding")
    )
    weights = np.exp([q @ key / math.sqrt(len(q)) for key in keys])
    weights = weights / weights.sum()
    attended.append(sum(w * v for w, v in zip(weights, values, strict=True)))
  token = np.concatenate(list(query))
  token = token + dense(np.concatenate(attended), params[f"Dense_{last - 1}"])
  mlp = params["MLP_0"]
  hidden = gelu(dense(norm(token, params["LayerNorm_1"]), mlp["Dense_0"]))
  token = token + dense(hidden, mlp["Dense_1"])
  return dense(token, params[f"Dense_{last}"])


def to_float64(tree):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


@pytest.mark.parametrize("chunk", [0, 2])
def test_learned_queries(chunk):
  module = make(num_queries=3, query_chunk=chunk)
  x = features()
  params = random_params(module, x)
  out = jax.jit(module.apply)({"params": params}, x)
  weights = to_float64(params)
  expected = [
    [expected_vector(clip, query, weights, 1) for query in weights["query"]]
    for clip in to_float64(x)
  ]
  np.testing.assert_allclose(out, expected, atol=2e-5)


@pytest.mark.parametrize("num_queries", [1, 3])
def test_given_queries(num_queries):
  module = make()
  x = features()
  shape = (BATCH, num_queries, 7)
  queries = np.random.default_rng(1).normal(size=shape).astype(np.float32)
  params = random_params(module, x, queries)
  out = jax.jit(module.apply)({"params": params}, x, queries)
  assert out.shape == (BATCH, num_queries, NUM_CLASSES)
  weights = to_float64(params)
  expected = [
    [
      expected_vector(
        clip, dense(query, weights["Dense_0"]).reshape(2, 4), weights, 2
      )
      for query in row
    ]
    for clip, row in zip(to_float64(x), to_float64(queries), strict=True)
  ]
  np.testing.assert_allclose(out, expected, atol=2e-5)


def test_official_parameter_names():
  shared = {
    "LayerNorm_0/scale",
    "LayerNorm_0/bias",
    "temporal_posenc/embeddings",
    "LayerNorm_1/scale",
    "LayerNorm_1/bias",
  } | {
    f"{layer}/{name}"
    for layer in (
      "key_embedding",
      "value_embedding",
      "MLP_0/Dense_0",
      "MLP_0/Dense_1",
      "Dense_0",
      "Dense_1",
    )
    for name in ("kernel", "bias")
  }
  learned = make(num_queries=3)
  tree = random_params(learned, features())
  assert set(traverse_util.flatten_dict(tree, sep="/")) == shared | {"query"}
  given = make()
  tree = random_params(given, features(), np.zeros((BATCH, 1, 7), np.float32))
  names = set(traverse_util.flatten_dict(tree, sep="/"))
  assert names == shared | {"Dense_2/kernel", "Dense_2/bias"}


def test_initial_values():
  module = AttentionReadout(4, Trunk(width=64, num_heads=4), num_queries=50)
  x = np.zeros((1, 20, 1, 100), np.float32)
  params = jax.jit(module.init)(jax.random.key(3), x)["params"]
  kernel = params["key_embedding"]["kernel"]
  # Lecun normal: variance one over the channels, not over channels x heads.
  assert np.std(kernel) == pytest.approx(1 / math.sqrt(100), rel=0.05)
  assert np.std(params["query"]) == pytest.approx(0.02, rel=0.05)
  embeddings = params["temporal_posenc"]["embeddings"]
  assert np.std(embeddings) == pytest.approx(0.02, rel=0.1)
  assert np.all(params["LayerNorm_0"]["scale"] == 1)
  assert not np.any(params["key_embedding"]["bias"])


def plain_attention(query, key, value):
  query = jnp.broadcast_to(query, (key.shape[0], *query.shape[1:]))
  logits = jnp.einsum("bqkd,bmkd->bkqm", query, key) / math.sqrt(key.shape[-1])
  weights = jax.nn.softmax(logits, axis=-1)
  return jnp.einsum("bkqm,bmkd->bqkd", weights, value)


@pytest.mark.parametrize(("rows", "chunk"), [(1, 0), (2, 0), (1, 3)])
def test_attention_and_its_derivative(rows, chunk):
  rng = np.random.default_rng(0)

  def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

  query = 2 * normal(rows, 7, 2, 4)
  key, value, direction = (
    normal(2, 9, 2, 4),
    normal(2, 9, 2, 4),
    normal(2, 7, 2, 4),
  )

  def value_and_gradients(function):
    def scalar(*args):
      out = function(*args)
      return jnp.sum(out * direction), out

    run = jax.jit(jax.grad(scalar, (0, 1, 2), has_aux=True))
    return jax.tree.leaves(run(query, key, value))

  ours = value_and_gradients(lambda *args: attend_in_chunks(*args, chunk))
  automatic = value_and_gradients(plain_attention)
  for one, other in zip(ours, automatic, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_large_logits_do_not_overflow():
  query = np.full((1, 1, 1, 4), 300.0, np.float32)
  key = np.stack([np.ones((1, 4)), -np.ones((1, 4))])[None].astype(np.float32)
  value = np.arange(8, dtype=np.float32).reshape(1, 2, 1, 4)
  out = attend(query, key, value)
  np.testing.assert_allclose(out[0, 0, 0], value[0, 0, 0])


def test_bfloat16_products_keep_float32_results():
  x = features()
  exact = make(num_queries=3)
  params = random_params(exact, x)
  coarse = make(num_queries=3, dtype=jnp.bfloat16)

  def run(module):
    def loss(params):
      out = module.apply({"params": params}, x)
      return jnp.sum(jnp.square(out)), out

    return jax.tree.leaves(jax.jit(jax.grad(loss, has_aux=True))(params))

  for ours, reference in zip(run(coarse), run(exact), strict=True):
    assert ours.dtype == jnp.float32
    scale = np.max(np.abs(reference)) + 1
    np.testing.assert_allclose(ours / scale, reference / scale, atol=0.1)
    assert not np.array_equal(ours, reference)


def test_wrong_use_is_refused():
  x = features()
  queries = np.zeros((BATCH, 1, 7), np.float32)
  with pytest.raises(ValueError, match="multiple of readout"):
    AttentionReadout(1, Trunk(width=9, num_heads=2), num_queries=1).init(
      jax.random.key(0), x
    )
  with pytest.raises(ValueError, match="without queries"):
    make().init(jax.random.key(0), x)
  learned = make(num_queries=3)
  with pytest.raises(ValueError, match="with queries"):
    learned.init(jax.random.key(0), x, queries)
  with pytest.raises(ValueError, match="selects learned queries"):
    make().init(jax.random.key(0), x, queries, jnp.zeros(1, jnp.int32))
