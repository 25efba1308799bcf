"""V-JEPA 2: the golden, rotary positions, both namings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones import encode, rotary
from forecasting.backbones.zoo import get_spec

CASE = "vjepa2_encoder_a"


def test_agrees_with_reference(goldens):
  assert goldens.error(CASE) < 2e-5


def test_both_files_of_a_case_load(goldens):
  assert goldens.loads_the_same(CASE, goldens.folder / f"{CASE}.pth")


def test_comparison_notices_rates_by_pairs(goldens, monkeypatch):
  angles = rotary.rotation_angles

  def by_pairs(grid, head_dim):
    halves = angles(grid, head_dim)[:, : 6 * (head_dim // 6)]
    first = np.split(halves, 6, axis=1)[::2]
    pairs = np.repeat(np.concatenate(first, axis=1), 2, axis=1)
    return np.pad(pairs, ((0, 0), (0, head_dim - pairs.shape[1])))

  monkeypatch.setattr(rotary, "rotation_angles", by_pairs)
  assert goldens.error(CASE) > 0.1


def test_released_files_hold_the_average_first(goldens):
  # Of the golden's file only `encoder`, which is not the default, is right.
  spec = dataclasses.replace(goldens.spec(CASE), options={})
  path = goldens.folder / f"{CASE}.pth"
  half = encode.load_spec(spec, checkpoint=path).params["encoder"]["norm"]
  right = encode.load_spec(goldens.spec(CASE), checkpoint=path)
  norm = right.params["encoder"]["norm"]
  np.testing.assert_allclose(norm["bias"], 2 * half["bias"])


def turned(features, place):
  """One head's features at one place, by the definition."""
  group = 2 * ((len(features) // 3) // 2)
  result = features.copy()
  for axis, coordinate in enumerate(place):
    start = axis * group
    for i in range(group // 2):
      for j, partner, sign in ((2 * i, 2 * i + 1, -1), (2 * i + 1, 2 * i, 1)):
        rate = 10000 ** (-(j % (group // 2)) / (group / 2))
        cos, sin = np.cos(coordinate * rate), np.sin(coordinate * rate)
        result[start + j] = (
          features[start + j] * cos + sign * features[start + partner] * sin
        )
  return result


@pytest.mark.parametrize("head_dim", [24, 20, 13])
def test_rotation_by_its_definition(head_dim):
  grid = (2, 3, 5)  # not square
  x = np.random.default_rng(0).standard_normal((2, 3, 30, head_dim))
  found = rotary.make_rotate(grid, head_dim)(jnp.asarray(x, jnp.float32))
  expected = np.empty_like(x)
  for clip in range(2):
    for head in range(3):
      for n, place in enumerate(np.ndindex(*grid)):
        expected[clip, head, n] = turned(x[clip, head, n], place)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def transformers_names(arrays):
  """Renames official arrays as transformers' VJEPA2Model does."""
  renamed = {}
  for name, array in arrays.items():
    name = name.removeprefix("module.").removeprefix("backbone.")
    name = name.replace("patch_embed.", "encoder.embeddings.patch_embeddings.")
    if name.startswith("norm."):
      name = f"encoder.layer{name}"
    name = name.replace("blocks.", "encoder.layer.")
    name = name.replace("attn.", "attention.")
    if "qkv" in name:
      for part, piece in zip(
        ("query", "key", "value"), np.split(array, 3), strict=True
      ):
        renamed[name.replace("qkv", part)] = piece
    else:
      renamed[name] = array
  return renamed


@pytest.mark.parametrize("prefix", ["", "vjepa2."])
def test_transformers_files_load_the_same(prefix, goldens):
  def edit(arrays):
    renamed = transformers_names(arrays)
    assert len(renamed) == len(arrays) + 2 * 2 * 3
    return {prefix + name: array for name, array in renamed.items()} | {
      f"{prefix}predictor.layernorm.weight": np.ones(3),
      "classifier.bias": np.ones(2),
    }

  assert goldens.loads_the_same(CASE, goldens.rewritten(CASE, edit))


def test_the_unused_table_is_no_error(goldens):
  path = goldens.rewritten(
    CASE, lambda arrays: {**arrays, "module.backbone.pos_embed": np.ones(3)}
  )
  assert goldens.loads_the_same(CASE, path)


@pytest.mark.parametrize(
  ("change", "complaint"),
  [
    (
      {"blocks.1.attn.proj.bias": None},
      "missing: encoder/layers_1/attention/o",
    ),
    ({"blocks.3.norm1.bias": np.ones(48)}, "not used .*: blocks.3.norm1.bias"),
    ({"mask_token": np.ones(48)}, "not used by this backbone: mask_token"),
    (
      {"blocks.0.mlp.fc1.weight": np.ones((48, 192))},
      r"misshapen: blocks.0.mlp.fc1.weight \(48, 192\)",
    ),
    (
      {"blocks.0.attn.qkv.bias": np.ones(143)},
      r"misshapen: blocks.0.attn.qkv.bias \(143,\), for .*query/bias",
    ),
  ],
)
def test_names_wrong_keys(change, complaint, goldens):
  def edit(arrays):
    arrays = {k.split("backbone.")[-1]: v for k, v in arrays.items()} | change
    return {k: v for k, v in arrays.items() if v is not None}

  path = goldens.rewritten(CASE, edit)
  with pytest.raises(ValueError, match=complaint):
    encode.load_spec(goldens.spec(CASE), checkpoint=path)


@pytest.mark.parametrize(
  ("name", "millions"),
  [("vjepa2_l", 303.9), ("vjepa2_h", 631.6), ("vjepa2_g", 1012.2)],
)
def test_number_of_parameters(name, millions):
  # Blocks are alike: one and two of them tell the rest.
  spec = get_spec(name)
  one, two = (
    sum(leaf.size for leaf in jax.tree.leaves(encode.parameter_shapes(short)))
    for short in (dataclasses.replace(spec, depth=n) for n in (1, 2))
  )
  count = one + (spec.depth - 1) * (two - one)
  # Those of V-JEPA L but for its table.
  assert name != "vjepa2_l" or count == 305_490_944 - 1_605_632
  assert round(count / 1e6, 1) == millions
  assert spec.grid == (8, 16, 16)


def test_short_clips_take_the_first_positions(random_backbone):
  tiny = random_backbone(dataclasses.replace(get_spec("vjepa2_tiny"), depth=2))
  video = np.random.default_rng(0).random((2, 4, 64, 64, 3), np.float32)
  latents = jax.jit(tiny.encode_context)(tiny.params, video)
  assert latents.shape == (2, 2, 8, 8, 96)
  assert np.abs(latents[0] - latents[1]).max() > 0.1
  np.testing.assert_array_equal(
    rotary.rotation_angles((8, 8, 8), 48)[:128],
    rotary.rotation_angles((2, 8, 8), 48),
  )
