"""The encoder against the goldens, its two namings and short clips."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones import encode
from forecasting.backbones.videomae import wave_table
from forecasting.backbones.zoo import get_spec

CASES = (
  "videomae_a",
  "videomae_b",
  "videomaev2_a",
  "videomaev2_b",
  "hf_videomae_a",
)


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_reference(name, goldens):
  assert goldens.error(name) < 2e-5


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_both_files_of_a_case_load(suffix, goldens):
  path = goldens.folder / f"videomaev2_b{suffix}"
  assert goldens.loads_the_same("videomaev2_b", path)


def with_options(spec, **options):
  return dataclasses.replace(spec, options={**spec.options, **options})


def test_comparison_notices_another_epsilon(goldens):
  wrong = with_options(goldens.spec("videomae_b"), norm_epsilon=1e-4)
  assert goldens.error("videomae_b", wrong) > 1e-4


def test_comparison_notices_swapped_biases(goldens):
  def edit(arrays):
    query, value = (
      "encoder.blocks.0.attn.q_bias",
      "encoder.blocks.0.attn.v_bias",
    )
    return arrays | {query: arrays[value], value: arrays[query]}

  path = goldens.rewritten("videomae_a", edit)
  assert goldens.error("videomae_a", weights=path) > 1e-2


def test_comparison_notices_other_positions(goldens, monkeypatch):
  monkeypatch.setattr(
    "forecasting.backbones.videomae.wave_table",
    lambda tokens, width: np.zeros((tokens, width), np.float32),
  )
  assert goldens.error("videomae_a") > 0.1


def test_waves_by_their_definition():
  table = wave_table(7, 6)
  for n in range(7):
    for j in range(6):
      angle = n / 10000 ** (2 * (j // 2) / 6)
      wave = np.cos(angle) if j % 2 else np.sin(angle)
      assert abs(table[n, j] - wave) < 1e-7


def test_short_clips_take_the_first_positions():
  assert wave_table(8, 6).shape == (8, 6)
  np.testing.assert_array_equal(wave_table(32, 6)[:8], wave_table(8, 6))


@pytest.mark.parametrize(
  ("name", "change", "complaint"),
  [
    (
      "videomae_b",
      {"encoder.blocks.1.attn.q_bias": None},
      "missing: encoder/layers_1/attention/query/bias",
    ),
    ("videomae_b", {"encoder.norm.bias": None}, "missing: encoder/norm/bias"),
    (
      "videomae_b",
      {"encoder.blocks.0.gamma_1": np.ones(30)},
      "not used by this backbone: encoder.blocks.0.gamma_1",
    ),
    (
      "videomae_b",
      {"encoder.blocks.0.attn.q_bias": np.ones(31)},
      r"misshapen: encoder.blocks.0.attn.q_bias \(31,\)",
    ),
    (
      "hf_videomae_a",
      {"encoder.layer.0.attention.attention.v_bias": None},
      "missing: encoder/layers_0/attention/value/bias",
    ),
  ],
)
def test_names_wrong_keys(name, change, complaint, goldens):
  def edit(arrays):
    arrays = {**arrays, **change}
    return {k: v for k, v in arrays.items() if v is not None}

  path = goldens.rewritten(name, edit)
  with pytest.raises(ValueError, match=complaint):
    encode.load_spec(goldens.spec(name), checkpoint=path)


def test_other_prefixes_load_the_same(goldens):
  def bare(arrays):
    encoder = {k: v for k, v in arrays.items() if k.startswith("encoder.")}
    return {f"backbone.{k[len('encoder.') :]}": v for k, v in encoder.items()}

  path = goldens.rewritten("videomae_b", bare)
  assert goldens.loads_the_same("videomae_b", path)

  def whole(arrays):
    return {f"videomae.{k}": v for k, v in arrays.items()} | {
      "decoder.norm.weight": np.ones(3)
    }

  path = goldens.rewritten("hf_videomae_a", whole)
  assert goldens.loads_the_same("hf_videomae_a", path)


def test_fine_tuned_checkpoints_have_no_final_norm(goldens):
  def fine_tuned(arrays):
    return {
      key.removeprefix("encoder.").replace("norm.", "fc_norm.", 1)
      if key.startswith("encoder.norm.")
      else key.removeprefix("encoder."): array
      for key, array in arrays.items()
    } | {"head.weight": np.ones((5, 30))}

  path = goldens.rewritten("videomae_b", fine_tuned)
  spec = goldens.spec("videomae_b")
  with pytest.raises(ValueError, match=r"options\.final_norm=False"):
    encode.load_spec(spec, checkpoint=path)
  # What comes out is the last block, which the norm of the other file turns
  # into the golden.
  plain = encode.load_spec(
    with_options(spec, final_norm=False), checkpoint=path
  )
  with np.load(goldens.folder / "videomae_b.npz") as arrays:
    frames, expected = arrays["frames"], arrays["latents"]
  latents = jax.jit(plain.raw_latents)(plain.params, frames)
  norm = encode.load_spec(
    spec, checkpoint=goldens.weights("videomae_b")
  ).params["encoder"]["norm"]
  normed = encode.layer_norm(latents) * norm["scale"] + norm["bias"]
  np.testing.assert_allclose(normed, expected, atol=2e-5)
  assert np.abs(latents - expected).max() > 0.1


@pytest.mark.parametrize(
  ("name", "count", "grid"),
  [
    ("videomae_h", 631_607_040, (8, 14, 14)),
    ("videomaev2_g", 1_011_610_752, (8, 16, 16)),
  ],
)
def test_number_of_parameters(name, count, grid):
  spec = get_spec(name)
  shapes = encode.parameter_shapes(spec)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
  assert spec.grid == grid


def test_tiny_encodes_context_alone(random_backbone):
  tiny = random_backbone(get_spec("videomae_tiny"))
  video = np.random.default_rng(0).random((2, 4, 64, 64, 3), np.float32)
  latents = jax.jit(tiny.encode_context)(tiny.params, video)
  assert latents.shape == (2, 2, 8, 8, 96)
  assert jnp.isfinite(latents).all()
  assert float(jnp.abs(latents[0] - latents[1]).max()) > 0.1
