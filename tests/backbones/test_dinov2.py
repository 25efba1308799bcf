"""The encoder against the goldens, its checkpoints, positions, frames."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones import encode
from forecasting.backbones.framewise import frames_at_once
from forecasting.backbones.vit import BlockConfig
from forecasting.backbones.zoo import get_spec

CASES = ("dinov2_a", "dinov2_b", "hf_dinov2_a")


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_reference(name, goldens):
  assert goldens.error(name) < 2e-5


def test_bfloat16_stays_near(goldens):
  backbone = encode.load_spec(
    goldens.spec("dinov2_a"),
    checkpoint=goldens.weights("dinov2_a"),
    dtype="bfloat16",
  )
  with np.load(goldens.folder / "dinov2_a.npz") as arrays:
    frames, expected = arrays["frames"], arrays["latents"]
  latents = jax.jit(backbone.raw_latents)(backbone.params, frames)
  assert latents.dtype == jnp.float32
  error = np.sqrt(np.square(latents - expected).mean()) / expected.std()
  assert 1e-4 < error < 0.02


def changed(spec, *, sizes=None, options=None):
  return dataclasses.replace(
    spec,
    sizes={**spec.sizes, **(sizes or {})},
    options={**spec.options, **(options or {})},
  )


@pytest.mark.parametrize(
  ("name", "mistake", "cost"),
  [
    ("dinov2_a", {"options": {"pos_interp": "hf"}}, 1e-3),
    ("hf_dinov2_a", {"options": {"pos_interp": "official"}}, 1e-3),
    ("dinov2_a", {"sizes": {"antialias": True}}, 1e-2),
    ("dinov2_b", {"sizes": {"epsilon": 1e-5}}, 1e-4),
  ],
)
def test_comparison_notices(name, mistake, cost, goldens):
  assert goldens.error(name, changed(goldens.spec(name), **mistake)) > cost


def test_position_rule_must_be_known():
  with pytest.raises(ValueError, match=r"pos_interp is 'torch'; .* official"):
    encode.load_backbone(
      "dinov2_tiny", random_init=True, options={"pos_interp": "torch"}
    )


def test_class_token_is_that_of_the_reference(goldens):
  spec = goldens.spec("dinov2_a")
  backbone = encode.load_spec(spec, checkpoint=goldens.weights("dinov2_a"))
  with np.load(goldens.folder / "dinov2_a.npz") as arrays:
    frames, expected = arrays["model_input"][0], arrays["cls_tokens"][0]
  network = encode.build_network(spec)
  tokens = jax.jit(network.apply)({"params": backbone.params}, frames)
  np.testing.assert_allclose(tokens[:, 0], expected, atol=2e-5 * expected.std())


@pytest.mark.parametrize(
  ("name", "change", "complaint"),
  [
    ("dinov2_a", {"norm.bias": None}, "missing: encoder/norm/bias"),
    (
      "hf_dinov2_a",
      {"encoder.layer.1.layer_scale1.lambda1": None},
      "missing: encoder/layers_1/attention_scale",
    ),
    ("dinov2_a", {"norm.extra": np.zeros(3)}, "backbone: norm.extra"),
    ("dinov2_a", {"blocks.4.ls1.gamma": np.ones(48)}, "blocks.4.ls1.gamma"),
    (
      "dinov2_a",
      {"blocks.0.attn.qkv.weight": np.zeros((143, 48))},
      r"misshapen: blocks.0.attn.qkv.weight \(143, 48\)",
    ),
    ("dinov2_b", {"pos_embed": np.zeros((1, 26, 32))}, "misshapen: pos_embed"),
    ("dinov2_b", {"cls_token": np.zeros((1, 1, 3))}, "misshapen: cls_token"),
  ],
)
def test_names_wrong_keys(name, change, complaint, goldens):
  def edit(arrays):
    arrays = {**arrays, **change}
    return {k: v for k, v in arrays.items() if v is not None}

  path = goldens.rewritten(name, edit)
  with pytest.raises(ValueError, match=complaint):
    encode.load_spec(goldens.spec(name), checkpoint=path)


def test_chunks_of_blocks_and_prefixes_load_the_same(goldens):
  def chunked(arrays):
    return {k.replace("blocks.", "blocks.0."): v for k, v in arrays.items()}

  path = goldens.rewritten("dinov2_b", chunked)
  assert goldens.loads_the_same("dinov2_b", path)

  def prefixed(arrays):
    return {f"dinov2.{k}": v for k, v in arrays.items()}

  path = goldens.rewritten("hf_dinov2_a", prefixed)
  assert goldens.loads_the_same("hf_dinov2_a", path)


@pytest.mark.parametrize(
  ("name", "count"),
  [
    # The reference's counts without its mask token, which is not used here.
    ("dinov2_s", 22_056_576 - 384),
    ("dinov2_b", 86_580_480 - 768),
    ("dinov2_l", 304_368_640 - 1024),
    ("dinov2_g", 1_136_480_768 - 1536),
    ("dinov2_l_reg", 304_368_640 - 1024 + 4 * 1024),
  ],
)
def test_number_of_parameters(name, count):
  spec = get_spec(name)
  shapes = encode.parameter_shapes(spec)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
  assert spec.grid == (16, 16, 16)


@pytest.fixture(scope="module")
def video():
  return np.random.default_rng(0).random((2, 4, 64, 64, 3), np.float32)


def test_tiny_encodes_frames_apart(random_backbone, video):
  tiny = random_backbone(get_spec("dinov2_tiny"))
  encode_clips = jax.jit(tiny.encode)
  latents = encode_clips(tiny.params, video)
  assert latents.shape == (2, 4, 4, 4, 96)
  assert jnp.isfinite(latents).all()
  assert float(jnp.abs(latents[0] - latents[1]).max()) > 0.1
  # Another last frame leaves the others as they are.
  video = video.copy()
  video[:, 3] = 0.0
  again = encode_clips(tiny.params, video)
  np.testing.assert_array_equal(again[:, :3], latents[:, :3])
  assert float(jnp.abs(again[:, 3] - latents[:, 3]).max()) > 0.1


@pytest.fixture(scope="module")
def toy(random_backbone):
  spec = get_spec("dinov2_tiny")
  return random_backbone(
    dataclasses.replace(spec, width=12, depth=1, heads=2, mlp_dim=20)
  )


@pytest.fixture(scope="module")
def expected(toy, video):
  return jax.jit(toy.raw_latents)(toy.params, video)


@pytest.mark.parametrize("count", [1, 3])
def test_frames_at_once_change_nothing(count, toy, video, expected):
  spec = encode.with_options(toy.spec, {"frames_at_once": count})
  lean = dataclasses.replace(toy, spec=spec)
  lowered = jax.jit(lean.raw_latents).lower(toy.params, video)
  assert "while" in lowered.as_text()
  latents = lowered.compile()(toy.params, video)
  np.testing.assert_allclose(latents, expected, atol=2e-5)


def test_number_of_frames_at_once(monkeypatch):
  g_opt, base = BlockConfig(16, 8192), BlockConfig(12, 3072)
  # All frames of one clip of 256 tokens, fewer of each of several.
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  counts = [
    frames_at_once(0, (clips, 16, 224, 224, 3), 256, g_opt)
    for clips in (1, 4, 64)
  ]
  assert counts == [16, 4, 1]
  monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
  assert frames_at_once(0, (1, 16, 224, 224, 3), 257, base) == 2
  assert frames_at_once(3, (1, 16, 8, 8, 3), 256, g_opt) == 2
  assert frames_at_once(99, (1, 6, 8, 8, 3), 256, g_opt) == 6


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_positions_of_models_with_registers(grid):
  spec = get_spec("dinov2_l_reg")
  network = encode.build_network(
    dataclasses.replace(
      spec, resolution=(14 * grid[0], 14 * grid[1]), width=2, depth=1, heads=1
    )
  )
  table = np.random.default_rng(0).normal(size=(37, 37, 2)).astype(np.float32)
  params = {
    "positions": table,
    "class_token": np.zeros(2, np.float32),
    "class_position": np.zeros(2, np.float32),
    "registers": np.zeros((4, 2), np.float32),
  }
  positions = network.bind({"params": params}).frame_positions()
  expected = jax.image.resize(table, (*grid, 2), "cubic", antialias=True)
  np.testing.assert_allclose(positions, expected, atol=1e-5)


def test_registers_and_gates_load(goldens):
  """A register and gated weights, in both namings, compute the same."""
  rng = np.random.default_rng(0)
  spec = goldens.spec("dinov2_b")
  spec = dataclasses.replace(
    spec, sizes={**spec.sizes, "registers": 2, "mlp": "swiglu"}, mlp_dim=24
  )
  arrays = {"register_tokens": rng.normal(size=(1, 2, 32))}
  for i in range(3):
    arrays |= {
      f"blocks.{i}.mlp.w12.weight": rng.normal(size=(48, 32)),
      f"blocks.{i}.mlp.w12.bias": rng.normal(size=48),
      f"blocks.{i}.mlp.w3.weight": rng.normal(size=(32, 24)),
      f"blocks.{i}.mlp.w3.bias": rng.normal(size=32),
    }

  def edit(old):
    return {k: v for k, v in old.items() if ".fc" not in k} | arrays

  path = goldens.rewritten("dinov2_b", edit)
  params = encode.load_spec(spec, checkpoint=path).params
  mlp = params["encoder"]["layers_2"]["mlp"]
  weight = arrays["blocks.2.mlp.w12.weight"].astype(np.float32)
  np.testing.assert_array_equal(mlp["dense_gate"]["kernel"], weight[:24].T)
  np.testing.assert_array_equal(mlp["dense_in"]["kernel"], weight[24:].T)
  bias = arrays["blocks.2.mlp.w12.bias"].astype(np.float32)
  np.testing.assert_array_equal(mlp["dense_gate"]["bias"], bias[:24])
  assert params["registers"].shape == (2, 32)
