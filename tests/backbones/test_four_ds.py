"""The encoder against an independent forward pass and the goldens."""

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones.four_ds import blocks_for_depth, to_patches
from forecasting.backbones.zoo import get_spec

ROOT = Path(__file__).parents[2]
GOLDENS = Path(
  os.environ.get(
    "FORECASTING_GOLDENS", ROOT.parent / "shared" / "reference" / "goldens"
  )
)


@pytest.mark.parametrize("name", ["4ds_a", "4ds_b"])
def test_agrees_with_reference(name, monkeypatch):
  folder = GOLDENS / "backbones"
  if not folder.is_dir():
    pytest.skip(f"no goldens in {folder}; set FORECASTING_GOLDENS")
  monkeypatch.syspath_prepend(ROOT / "tests" / "parity")
  import check_backbones

  spec = check_backbones.golden_spec(folder, name)
  file = folder / f"{name}_ckpt.npz"
  assert check_backbones.errors(folder, name, spec, file)[1] < 1e-5
  # The comparison notices a wrong layer.
  wrong = dataclasses.replace(spec, layer="0.7")
  assert check_backbones.errors(folder, name, wrong, file)[1] > 0.1


@pytest.mark.parametrize(
  ("depth", "blocks"), [(8, 6), (12, 10), (24, 21), (32, 29), (56, 52)]
)
def test_layer_rule(depth, blocks):
  assert blocks_for_depth(0.95, depth) == blocks


def test_layer_rule_never_asks_for_less_than_no_block():
  assert blocks_for_depth(0.01, 8) == 0


def test_patches_keep_time_row_column_order():
  video = np.arange(4 * 4 * 6 * 3, dtype=np.float32).reshape(1, 4, 4, 6, 3)
  patches = np.asarray(to_patches(video, (2, 2, 3)))
  assert patches.shape == (1, 8, 36)
  # Slot 1, row 0, column 1 is the sixth token.
  expected = video[0, 2:4, 0:2, 3:6].ravel()
  np.testing.assert_array_equal(patches[0, 5], expected)


def norm(x, p):
  centered = x - x.mean(-1, keepdims=True)
  scale = np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6)
  return centered / scale * p["scale"] + p["bias"]


def block(x, p):
  """One block in float64, token by token and head by head."""
  a = p["attention"]
  y = norm(x, p["attention_norm"])
  q, k, v = (
    np.einsum("nd,dkh->nkh", y, a[name]["kernel"]) + a[name]["bias"]
    for name in ("query", "key", "value")
  )
  mixed = np.zeros_like(v)
  for head in range(q.shape[1]):
    logits = q[:, head] @ k[:, head].T / np.sqrt(q.shape[-1])
    weights = np.exp(logits)
    mixed[:, head] = weights @ v[:, head] / weights.sum(1, keepdims=True)
  x = x + np.einsum("nkh,khd->nd", mixed, a["out"]["kernel"]) + a["out"]["bias"]
  y = norm(x, p["mlp_norm"])
  y = y @ p["mlp"]["dense_in"]["kernel"] + p["mlp"]["dense_in"]["bias"]
  y = y * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
  return x + y @ p["mlp"]["dense_out"]["kernel"] + p["mlp"]["dense_out"]["bias"]


def test_agrees_with_float64(toy):
  video = np.random.default_rng(0).random((1, 2, 16, 16, 3), np.float32)
  latents = jax.jit(toy.raw_latents)(toy.params, jnp.asarray(video))
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), toy.params)
  conv = p["encoder"]["patch_embedding"]["Conv_0"]
  x = []
  for row in range(2):
    for column in range(2):
      cut = video[0, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
      x.append((cut[..., None] * conv["kernel"]).sum((0, 1, 2, 3)))
  x = np.stack(x) + conv["bias"]
  x += p["encoder"]["posenc"]["embeddings"][0].reshape(4, -1)
  for i in range(3):
    x = block(x, p["processor"][f"layers_{i}"])
  np.testing.assert_allclose(
    np.asarray(latents).reshape(4, 24), x, atol=2e-5 * x.std()
  )


def test_spec_of_tiny():
  spec = get_spec("4ds_tiny")
  assert spec.grid == (8, 8, 8)
  assert (spec.width, spec.depth, spec.context_mode) == (128, 8, "crop_pos")


def test_unknown_name_suggests_nearest():
  with pytest.raises(ValueError, match="did you mean '4ds_tiny'"):
    get_spec("4ds_tinny")
