"""NExT-Vid: goldens, and that nothing looks ahead."""

import dataclasses

import jax
import numpy as np
import pytest

from forecasting.backbones import encode, rotary
from forecasting.backbones.zoo import get_spec

CASES = ("nextvid_encoder_a", "nextvid_encoder_b")


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_reference(name, goldens):
  assert goldens.error(name) < 2e-5


@pytest.mark.parametrize("name", CASES)
def test_both_files_of_a_case_load(name, goldens):
  assert goldens.loads_the_same(name, goldens.folder / f"{name}.pth")


@pytest.mark.parametrize("wrong", ["none", "strict"])
def test_comparison_notices_other_masks(wrong, goldens, monkeypatch):
  def mask(grid):
    slot = np.repeat(np.arange(grid[0]), grid[1] * grid[2])
    count = len(slot)
    if wrong == "none":
      return np.ones((count, count), bool)
    # The token itself is shown, or the first rows would be empty.
    return (slot[:, None] > slot) | np.eye(count, dtype=bool)

  monkeypatch.setattr(rotary, "frame_causal", mask)
  assert goldens.error(CASES[0]) > 0.1


def test_mask_by_its_definition():
  mask = rotary.frame_causal((3, 2, 2))
  for i in range(12):
    for j in range(12):
      assert mask[i, j] == (j // 4 <= i // 4)


def test_context_is_the_same_with_the_future(random_backbone):
  spec = dataclasses.replace(
    get_spec("next_vid_tiny"), resolution=32, depth=2, num_frames=8
  )
  tiny = random_backbone(spec)
  video = np.random.default_rng(0).random((2, 8, 32, 32, 3), np.float32)
  whole = jax.jit(tiny.encode)(tiny.params, video)
  alone = jax.jit(tiny.encode_context)(tiny.params, video[:, :4])
  assert whole.shape == (2, 4, 4, 4, 96)
  np.testing.assert_allclose(whole[:, :2], alone, atol=2e-5)
  # Later slots do see the earlier ones, and clips differ.
  video[:, :2] = 0
  changed = jax.jit(tiny.encode)(tiny.params, video)
  assert np.abs(changed[:, 3] - whole[:, 3]).max() > 1e-3
  assert np.abs(whole[0] - whole[1]).max() > 0.1


@pytest.mark.parametrize(
  ("change", "complaint"),
  [
    ({"norm.weight": None}, "missing: encoder/norm/scale"),
    ({"pos_embed": np.ones(3)}, "not used by this backbone: pos_embed"),
    (
      {"blocks.0.mlp.fc2.weight": np.ones((40, 160))},
      r"misshapen: blocks.0.mlp.fc2.weight \(40, 160\)",
    ),
  ],
)
def test_names_wrong_keys(change, complaint, goldens):
  def edit(arrays):
    arrays = {k.split("backbone.")[-1]: v for k, v in arrays.items()} | change
    return {k: v for k, v in arrays.items() if v is not None}

  path = goldens.rewritten(CASES[1], edit)
  with pytest.raises(ValueError, match=complaint):
    encode.load_spec(goldens.spec(CASES[1]), checkpoint=path)


@pytest.mark.parametrize("size", ["l", "h", "g"])
def test_sizes_are_those_of_vjepa2(size):
  # Whose parameters are counted in test_vjepa2.py; the network is the same.
  ours, theirs = get_spec(f"next_vid_{size}"), get_spec(f"vjepa2_{size}")
  for field in ("width", "depth", "heads", "mlp_dim", "grid", "tubelet"):
    assert getattr(ours, field) == getattr(theirs, field)
  assert ours.value_range == (-1, 1)


def test_missing_weights_name_the_nearest_public_ones():
  with pytest.raises(FileNotFoundError, match="vjepa2_h, the nearest"):
    encode.load_backbone("next_vid_h")
