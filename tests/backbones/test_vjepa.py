"""V-JEPA: goldens, stored positions, short and non-square clips."""

import dataclasses

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from forecasting.backbones import encode
from forecasting.backbones.vjepa import sine_positions
from forecasting.backbones.zoo import get_spec


@pytest.mark.parametrize("name", ["vjepa_a", "vjepa_b"])
def test_agrees_with_reference(name, goldens):
  assert goldens.error(name) < 2e-5


@pytest.mark.parametrize("name", ["vjepa_a", "vjepa_b"])
def test_both_files_of_a_case_load(name, goldens):
  assert goldens.loads_the_same(name, goldens.folder / f"{name}.pth")


def with_options(spec, **options):
  return dataclasses.replace(spec, options={**spec.options, **options})


def test_the_other_encoder_can_be_chosen(goldens):
  right = goldens.spec("vjepa_b")
  wrong = with_options(right, weights="encoder")
  path = goldens.folder / "vjepa_b.pth"
  biases = [
    encode.load_spec(spec, checkpoint=path).params["encoder"]["norm"]["bias"]
    for spec in (right, wrong)
  ]
  # The goldens halve what is not to be taken.
  np.testing.assert_allclose(biases[0], 2 * biases[1])


def test_comparison_notices_mistakes(goldens):
  spec = goldens.spec("vjepa_b")
  first_slots = with_options(spec, pos_time="truncate")
  assert goldens.error("vjepa_b", first_slots) > 0.05
  sizes = {**spec.sizes, "epsilon": 1e-5}
  other_epsilon = dataclasses.replace(spec, sizes=sizes)
  assert goldens.error("vjepa_b", other_epsilon) > 1e-4


def test_positions_by_their_definition():
  grid, width = (2, 3, 4), 16
  table = sine_positions(grid, width)
  each = 2 * int(np.ceil(width / 6))
  for place in np.ndindex(*grid):
    features = []
    for coordinate in place:
      rates = [10000 ** (-k / (each / 2)) for k in range(each // 2)]
      features += [np.sin(coordinate * rate) for rate in rates]
      features += [np.cos(coordinate * rate) for rate in rates]
    np.testing.assert_allclose(table[place], features[:width], atol=1e-7)


def test_positions_are_those_of_the_reference(goldens):
  stored = load_file(goldens.folder / "vjepa_a.safetensors")
  (table,) = (v for k, v in stored.items() if k.endswith("pos_embed"))
  np.testing.assert_allclose(
    sine_positions((8, 4, 4), 40).reshape(1, 128, 40), table, atol=1e-6
  )


def interpolated(table, size, axis):
  """Linear along one axis with half-pixel centers, place by place."""
  table = np.moveaxis(np.asarray(table, np.float64), axis, 0)
  count = len(table)
  rows = []
  for index in range(size):
    at = min(max((index + 0.5) * count / size - 0.5, 0), count - 1)
    low = int(np.floor(at))
    high = min(low + 1, count - 1)
    rows.append(table[low] * (1 - at + low) + table[high] * (at - low))
  return np.moveaxis(np.stack(rows), 0, axis)


@pytest.mark.parametrize(
  ("pos_time", "expected"), [("resize", [1.5, 5.5]), ("truncate", [0, 1])]
)
def test_clip_of_another_shape(pos_time, expected, random_backbone):
  spec = dataclasses.replace(
    get_spec("vjepa_tiny"),
    resolution=(32, 48),
    depth=1,
    sizes={"table": (8, 8, 8)},
    options={"pos_time": pos_time},
  )
  backbone = random_backbone(spec)
  params = dict(backbone.params)
  # Without blocks and patches, what comes out are the normalized positions.
  norm = {"scale": np.ones(96), "bias": np.zeros(96)}
  params["encoder"] = {"layers_0": params["encoder"]["layers_0"], "norm": norm}
  for branch, last in (("attention", "out"), ("mlp", "dense_out")):
    part = params["encoder"]["layers_0"][branch] = dict(
      params["encoder"]["layers_0"][branch]
    )
    part[last] = jax.tree.map(np.zeros_like, part[last])
  params["patch_embedding"] = jax.tree.map(
    np.zeros_like, params["patch_embedding"]
  )
  video = np.zeros((1, 4, 32, 48, 3), np.float32)
  latents = encode.Backbone(spec, params, "test", 1, "crop_pos").encode_context(
    params, video
  )
  table = np.asarray(params["positions"], np.float64)
  slots = [
    table[int(at)] * (1 - at % 1) + table[int(np.ceil(at))] * (at % 1)
    for at in expected
  ]
  positions = interpolated(interpolated(np.stack(slots), 4, 1), 6, 2)
  positions -= positions.mean(-1, keepdims=True)
  positions /= np.sqrt(np.square(positions).mean(-1, keepdims=True))
  np.testing.assert_allclose(latents[0], positions, atol=1e-3)


@pytest.mark.parametrize(
  ("change", "complaint"),
  [
    ({"blocks.1.attn.qkv.bias": None}, "missing: encoder/layers_1/attention/k"),
    ({"pos_embed": None}, "missing: positions"),
    (
      {"pos_embed": np.ones((1, 64, 36))},
      r"misshapen: pos_embed \(1, 64, 36\)",
    ),
    ({"blocks.3.norm1.bias": np.ones(36)}, "not used .*: blocks.3.norm1.bias"),
    ({"cls_token": np.ones(36)}, "not used by this backbone: cls_token"),
  ],
)
def test_names_wrong_keys(change, complaint, goldens):
  def edit(arrays):
    arrays = {k.split("backbone.")[-1]: v for k, v in arrays.items()} | change
    return {k: v for k, v in arrays.items() if v is not None}

  path = goldens.rewritten("vjepa_b", edit)
  with pytest.raises(ValueError, match=complaint):
    encode.load_spec(goldens.spec("vjepa_b"), checkpoint=path)


def test_unknown_rule_for_positions():
  spec = with_options(get_spec("vjepa_tiny"), pos_time="stretch")
  with pytest.raises(ValueError, match=r"pos_time is 'stretch'.*truncate"):
    encode.build_network(spec)


def test_number_of_parameters():
  spec = get_spec("vjepa_l")
  shapes = encode.parameter_shapes(spec)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 305_490_944
  assert spec.grid == (8, 14, 14)


def test_number_of_parameters_of_the_huge_one():
  # Blocks are alike: one and two of them tell the rest. 12 D^2 + 13 D a block.
  spec = get_spec("vjepa_h")
  one, two = (
    sum(leaf.size for leaf in jax.tree.leaves(encode.parameter_shapes(short)))
    for short in (dataclasses.replace(spec, depth=n) for n in (1, 2))
  )
  assert two - one == 12 * 1280**2 + 13 * 1280
  assert one + 31 * (two - one) == 633_655_040


def test_tiny_encodes_context_alone(random_backbone):
  tiny = random_backbone(get_spec("vjepa_tiny"))
  video = np.random.default_rng(0).random((2, 4, 64, 64, 3), np.float32)
  latents = jax.jit(tiny.encode_context)(tiny.params, video)
  assert latents.shape == (2, 2, 8, 8, 96)
  assert np.abs(latents[0] - latents[1]).max() > 0.1
