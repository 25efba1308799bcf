"""Checkpoint files: both formats, both prefixes, every key once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from forecasting.backbones import weights
from forecasting.backbones.zoo import FAMILIES, get_spec


@pytest.fixture
def params():
  rng = np.random.default_rng(0)
  shapes = {
    "encoder": {"posenc": {"embeddings": (2, 3, 3, 4)}},
    "processor": {"layers_0": {"mlp_norm": {"scale": (4,)}}},
  }
  return jax.tree.map(
    lambda shape: rng.standard_normal(shape).astype(np.float32),
    shapes,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def load(path, params):
  return weights.load_weights(
    path, params, FAMILIES["4ds"], get_spec("4ds_tiny")
  )


def save_npz(path, params, prefix, extra=None):
  flat = {prefix + k: v for k, v in flatten_dict(params, sep="/").items()}
  np.savez(path, **flat, **(extra or {}))


def assert_equal_trees(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("prefix", ["params/", "params/layers_0/"])
def test_npz_with_either_prefix(tmp_path, params, prefix):
  path = tmp_path / "w.npz"
  readout = {"params/layers_2/readout/kernel": np.zeros(3)}
  save_npz(path, params, prefix, readout)
  assert_equal_trees(load(path, params), params)


def test_safetensors_in_bfloat16(tmp_path, params):
  path = tmp_path / "w.safetensors"
  weights.save_weights(path, params, {"seed": 0}, jnp.bfloat16)
  loaded = load(path, params)
  rounded = jax.tree.map(
    lambda x: jnp.asarray(x, jnp.bfloat16).astype(jnp.float32), params
  )
  assert_equal_trees(loaded, rounded)
  assert not list(tmp_path.glob("*.tmp"))


def test_missing_key(tmp_path, params):
  path = tmp_path / "w.npz"
  short = {"encoder": params["encoder"]}
  save_npz(path, short, "params/")
  with pytest.raises(
    ValueError, match="missing: processor/layers_0/mlp_norm/scale"
  ):
    load(path, params)


@pytest.mark.parametrize("name", ["params/processor/layers_9/scale", "other"])
def test_extra_key(tmp_path, params, name):
  path = tmp_path / "w.npz"
  save_npz(path, params, "params/", {name: np.zeros(2)})
  with pytest.raises(ValueError, match=f"not used by this backbone: {name}"):
    load(path, params)


def test_same_key_under_both_prefixes(tmp_path, params):
  path = tmp_path / "w.npz"
  twice = {"params/layers_0/processor/layers_0/mlp_norm/scale": np.zeros(4)}
  save_npz(path, params, "params/", twice)
  with pytest.raises(ValueError, match="not used by this backbone: params/lay"):
    load(path, params)


def test_misshapen_key(tmp_path, params):
  path = tmp_path / "w.npz"
  save_npz(path, params, "params/")
  params["processor"]["layers_0"]["mlp_norm"]["scale"] = np.zeros(5)
  with pytest.raises(
    ValueError, match=r"misshapen: params/processor.*\(4,\), for .* \(5,\)"
  ):
    load(path, params)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_truncated_file(tmp_path, params, suffix):
  path = tmp_path / f"w{suffix}"
  if suffix == ".npz":
    save_npz(path, params, "params/")
  else:
    weights.save_weights(path, params, {}, jnp.float32)
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match="truncated"):
    load(path, params)


def test_absent_file_and_unknown_format(tmp_path, params):
  with pytest.raises(FileNotFoundError, match=r"backbone\.checkpoint"):
    load(tmp_path / "none.npz", params)
  path = tmp_path / "w.h5"
  path.write_bytes(b"")
  with pytest.raises(ValueError, match=r"no known format; expected \.npz"):
    load(path, params)


def test_digest(tmp_path):
  path = tmp_path / "w"
  path.write_bytes(b"abc")
  assert weights.file_digest(path).startswith("ba7816bf8f01cfea")
