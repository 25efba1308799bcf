"""The encoder against the goldens, its three kinds of files, positions."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import scipy.ndimage

from forecasting.backbones import encode
from forecasting.backbones.siglip import to_grid
from forecasting.backbones.zoo import get_spec


@pytest.mark.parametrize("name", ["siglip_a", "siglip_b", "hf_siglip_a"])
def test_agrees_with_reference(name, goldens):
  assert goldens.error(name) < 2e-5


def test_comparison_notices_another_epsilon_and_layer(goldens):
  spec = goldens.spec("siglip_b")
  wrong = dataclasses.replace(spec, sizes={"epsilon": 1e-5})
  assert goldens.error("siglip_b", wrong) > 1e-4
  early = dataclasses.replace(spec, layer="0.7")
  assert goldens.error("siglip_b", early) > 0.1


def test_comparison_notices_another_gelu(goldens, monkeypatch):
  gelu = jax.nn.gelu
  monkeypatch.setattr(
    "flax.linen.gelu", lambda x, approximate: gelu(x, approximate=False)
  )
  assert goldens.error("siglip_a") > 2e-4


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
def test_other_prefixes_load_the_same(prefix, goldens):
  def edit(arrays):
    return {
      prefix + key.removeprefix("params/"): array
      for key, array in arrays.items()
    }

  path = goldens.rewritten("siglip_a", edit)
  assert goldens.loads_the_same("siglip_a", path)


def test_raw_bfloat16_is_read_as_such(goldens):
  rounded = {}

  def edit(arrays):
    for key, array in arrays.items():
      rounded[key] = array.astype(ml_dtypes.bfloat16)
    return {key: array.view("V2") for key, array in rounded.items()}

  path = goldens.rewritten("siglip_b", edit)
  params = encode.load_spec(goldens.spec("siglip_b"), checkpoint=path).params
  block = "params/img/Transformer/encoderblock"
  np.testing.assert_array_equal(
    params["encoder"]["layers_2"]["mlp"]["dense_in"]["kernel"],
    rounded[f"{block}/MlpBlock_0/Dense_0/kernel"][2].astype(np.float32),
  )
  assert goldens.error("siglip_b", weights=path) < 0.1


def test_image_tower_alone_of_transformers(goldens):
  def edit(arrays):
    two_towers = {f"vision_model.{key}": x for key, x in arrays.items()}
    text = {"text_model.embeddings.token_embedding.weight": np.zeros((3, 2))}
    return two_towers | text | {"logit_scale": np.zeros(1)}

  path = goldens.rewritten("hf_siglip_a", edit)
  assert goldens.loads_the_same("hf_siglip_a", path)


IMAGE = "params/img/Transformer/"


@pytest.mark.parametrize(
  ("name", "change", "complaint"),
  [
    (
      "siglip_a",
      {f"{IMAGE}encoderblock_2/LayerNorm_1/bias": None},
      "missing: encoder/layers_2/mlp_norm/bias",
    ),
    (
      "siglip_b",
      {f"{IMAGE}encoderblock/LayerNorm_1/bias": None},
      "missing: encoder/layers_0/mlp_norm/bias",
    ),
    ("siglip_a", {"params/image/x": np.ones(2)}, "backbone: params/image/x"),
    (
      "siglip_a",
      {f"{IMAGE}encoderblock_4/LayerNorm_0/bias": np.ones(48)},
      "encoderblock_4/LayerNorm_0/bias",
    ),
    (
      "siglip_b",
      {f"{IMAGE}encoderblock/LayerNorm_0/bias": np.ones((4, 36))},
      r"misshapen: .*LayerNorm_0/bias \(4, 36\)",
    ),
    (
      "siglip_a",
      {"params/img/pos_embedding": np.ones((1, 35, 48))},
      r"misshapen: params/img/pos_embedding \(1, 35, 48\)",
    ),
    ("hf_siglip_a", {"post_layernorm.bias": None}, "missing: encoder/norm/b"),
  ],
)
def test_names_wrong_keys(name, change, complaint, goldens):
  def edit(arrays):
    arrays = {**arrays, **change}
    return {k: v for k, v in arrays.items() if v is not None}

  path = goldens.rewritten(name, edit)
  with pytest.raises(ValueError, match=complaint):
    encode.load_spec(goldens.spec(name), checkpoint=path)


def test_positions_of_another_resolution_are_zoomed_as_the_reference_does():
  table = np.random.default_rng(0).normal(size=(1, 81, 5)).astype(np.float32)
  with pytest.warns(UserWarning, match="9 x 9 patches; resampled to 6 x 6"):
    ours = to_grid(table, (6, 6))
  expected = scipy.ndimage.zoom(
    table.reshape(9, 9, 5), (6 / 9, 6 / 9, 1), order=1
  )
  np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
  ("name", "count"),
  [
    ("siglip_so400m", 412_442_352),
    ("siglip2_g_opt", 1_134_838_272),
    ("siglip_g_opt", 1_663_302_144),
  ],
)
def test_number_of_parameters(name, count):
  spec = get_spec(name)
  shapes = encode.parameter_shapes(spec)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
  assert spec.grid == (16, 16, 16)


def test_unreleased_tower_names_its_substitute():
  with pytest.raises(FileNotFoundError, match=r"none were .* siglip_so400m"):
    encode.load_backbone("siglip_g_opt")


def test_tiny_encodes_frames_apart(random_backbone):
  tiny = random_backbone(get_spec("siglip_tiny"))
  video = np.random.default_rng(0).random((1, 4, 64, 64, 3), np.float32)
  encode_clips = jax.jit(tiny.encode_context)
  latents = encode_clips(tiny.params, video)
  assert latents.shape == (1, 4, 4, 4, 96)
  assert jnp.isfinite(latents).all()
  video[:, 3] = 0.0
  again = encode_clips(tiny.params, video)
  np.testing.assert_array_equal(again[:, :3], latents[:, :3])
  assert float(jnp.abs(again[:, 3] - latents[:, 3]).max()) > 0.1


def test_memory_of_many_frames_is_bounded():
  spec = dataclasses.replace(get_spec("siglip_g_opt"), depth=2)
  bytes_used = []
  for count in (1, 16):
    spec = encode.with_options(spec, {"frames_at_once": count})
    backbone = encode.Backbone(spec, {}, "none", 2, "crop_pos")
    video = jax.ShapeDtypeStruct((4, 16, *spec.frame_size, 3), jnp.float32)
    lowered = jax.jit(backbone.encode).lower(
      encode.parameter_shapes(spec), video
    )
    memory = lowered.compile().memory_analysis()
    bytes_used.append(memory.temp_size_in_bytes)
  # Compiled only: 4 clips of 4096 tokens of width 1536.
  assert bytes_used[0] < bytes_used[1] / 8
  assert bytes_used[0] < 2**28
