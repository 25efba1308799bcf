"""The encoder against the goldens, its checkpoints and its positions."""

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from forecasting.backbones import encode
from forecasting.backbones.zoo import get_spec

ROOT = Path(__file__).parents[2]
GOLDENS = (
  Path(
    os.environ.get(
      "FORECASTING_GOLDENS", ROOT.parent / "shared" / "reference" / "goldens"
    )
  )
  / "backbones"
)


@pytest.fixture
def check(monkeypatch):
  if not GOLDENS.is_dir():
    pytest.skip(f"no goldens in {GOLDENS}; set FORECASTING_GOLDENS")
  monkeypatch.syspath_prepend(ROOT / "tests" / "parity")
  import check_backbones

  return check_backbones


def _rewrite(name, folder, change):
  """Writes the golden's weights again after `change(dict of arrays)`."""
  with np.load(GOLDENS / f"{name}_ckpt.npz") as file:
    arrays = change(dict(file))
  path = folder / f"{name}_ckpt.npz"
  np.savez(path, **arrays)
  return path


@pytest.mark.parametrize("name", ["videoprism_a", "videoprism_b"])
def test_agrees_with_reference(name, check):
  spec = check.golden_spec(GOLDENS, name)
  file = GOLDENS / f"{name}_ckpt.npz"
  assert check.errors(GOLDENS, name, spec, file)[1] < 2e-5


def test_comparison_notices_a_missing_cap(check, monkeypatch):
  spec = check.golden_spec(GOLDENS, "videoprism_a")
  file = GOLDENS / "videoprism_a_ckpt.npz"
  monkeypatch.setattr("forecasting.backbones.videoprism.LOGIT_CAP", 0.0)
  assert check.errors(GOLDENS, "videoprism_a", spec, file)[1] > 0.01


def test_comparison_notices_resizing_without_antialias(check, monkeypatch):
  spec = check.golden_spec(GOLDENS, "videoprism_b")
  file = GOLDENS / "videoprism_b_ckpt.npz"
  resize = jax.image.resize
  monkeypatch.setattr(
    jax.image, "resize", lambda *args: resize(*args, antialias=False)
  )
  assert check.errors(GOLDENS, "videoprism_b", spec, file)[1] > 0.05


def test_spatial_features_are_those_of_the_reference(check):
  spec = check.golden_spec(GOLDENS, "videoprism_b")
  # Half of the four blocks: the spatial transformer and its norm.
  backbone = encode.load_spec(
    spec, checkpoint=GOLDENS / "videoprism_b_ckpt.npz", layer="0.5"
  )
  with np.load(GOLDENS / "videoprism_b.npz") as arrays:
    latents = jax.jit(backbone.raw_latents)(backbone.params, arrays["frames"])
    expected = arrays["spatial_features"]
  np.testing.assert_allclose(latents, expected, atol=2e-5 * expected.std())


def test_video_text_files_and_layers_apart_load_the_same(check, tmp_path):
  name = "videoprism_b"
  stack = "transformers_stack/x_layers/"

  def change(arrays):
    new = {"params/text_encoder/token_emb/emb_var": np.zeros((5, 3))}
    for key, array in arrays.items():
      key = key.replace("params/", "params/vision_encoder/")
      if stack not in key:
        new[key] = array
        continue
      for i, layer in enumerate(array):
        new[key.replace(stack, f"{stack[:-1]}_{i}/")] = layer
    return new

  spec = check.golden_spec(GOLDENS, name)
  path = _rewrite(name, tmp_path, change)
  assert check.errors(GOLDENS, name, spec, path)[1] < 2e-5


@pytest.mark.parametrize(
  ("old", "new", "complaint"),
  [
    ("spatial_ln/bias", None, "missing: spatial_encoder/norm/bias"),
    (
      "temporal_encoder/transformers_stack/x_layers/self_attention/query/w",
      None,
      "missing: temporal_encoder/layers_0/attention/query/kernel",
    ),
    ("spatial_ln/bias", "spatial_ln/offset", "params/spatial_ln/offset"),
    ("spatial_ln/bias", "norm/bias", "not used by this backbone: params/norm"),
  ],
)
def test_names_wrong_keys(check, tmp_path, old, new, complaint):
  def change(arrays):
    array = arrays.pop(f"params/{old}")
    return arrays if new is None else {**arrays, f"params/{new}": array}

  spec = check.golden_spec(GOLDENS, "videoprism_b")
  path = _rewrite("videoprism_b", tmp_path, change)
  with pytest.raises(ValueError, match=complaint):
    encode.load_spec(spec, checkpoint=path)


def test_names_a_stack_of_another_depth(check):
  spec = check.golden_spec(GOLDENS, "videoprism_b")
  sizes = {**spec.sizes, "temporal_depth": 1}
  wrong = dataclasses.replace(spec, depth=3, sizes=sizes)
  with pytest.raises(ValueError, match=r"misshapen: params/temporal_encoder"):
    encode.load_spec(wrong, checkpoint=GOLDENS / "videoprism_b_ckpt.npz")


@pytest.mark.parametrize(
  ("name", "count"),
  [
    ("videoprism_b", 114_365_184),
    ("videoprism_l", 353_965_056),
    ("videoprism_g", 1_112_755_072),
  ],
)
def test_number_of_parameters(name, count):
  spec = get_spec(name)
  shapes = encode.parameter_shapes(spec)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
  assert spec.grid == (16, 16, 16)


def test_four_frames_see_averages_of_the_temporal_table():
  spec = get_spec("videoprism_tiny")
  spec = dataclasses.replace(spec, sizes={**spec.sizes, "table": (8, 4, 4)})
  network = encode.build_network(spec)
  table = np.random.default_rng(0).normal(size=(8, 96)).astype(np.float32)
  params = {
    "spatial_positions": np.zeros((16, 96), np.float32),
    "temporal_positions": table,
  }
  bound = network.bind({"params": params})
  # Output i samples the table at 2 i + 0.5 with a triangle of half-width 2,
  # renormalized where it leaves the table.
  centers = 2 * np.arange(4) + 0.5
  weights = np.maximum(0, 1 - np.abs(np.arange(8)[None] - centers[:, None]) / 2)
  weights /= weights.sum(1, keepdims=True)
  resized = bound._positions_in_time(4)
  np.testing.assert_allclose(resized, weights @ table, atol=1e-6)
  np.testing.assert_array_equal(bound._positions_in_time(8), table)


def test_tiny_encodes():
  backbone = encode.load_backbone("videoprism_tiny", random_init=True)
  video = jax.random.uniform(jax.random.key(0), (2, 4, 64, 64, 3))
  latents = jax.jit(backbone.encode_context)(backbone.params, video)
  assert latents.shape == (2, 4, 4, 4, 96)
  assert jnp.isfinite(latents).all()
  # Different frames, different latents: something is encoded at all.
  assert float(jnp.abs(latents[0] - latents[1]).max()) > 0.1
