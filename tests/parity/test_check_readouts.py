"""The check of the readouts accepts right goldens and refuses wrong ones."""

import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import traverse_util

sys.path.insert(0, str(Path(__file__).parent))

import check_readouts

from forecasting.readouts import heads
from forecasting.readouts.attention import Trunk

GOLDENS = Path(
  os.environ.get(
    "FORECASTING_GOLDENS",
    Path(__file__).parents[3] / "shared" / "reference" / "goldens",
  )
)


def test_golden_outputs():
  if not (GOLDENS / "readouts").is_dir():
    pytest.skip(f"no goldens in {GOLDENS}; set FORECASTING_GOLDENS")
  assert check_readouts.check_folder(GOLDENS / "readouts")


def _case(head, *queries):
  """Inputs, random weights and outputs in the format of the goldens."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, head.num_frames, 3, 5)).astype(np.float32)
  shapes = jax.eval_shape(head.init, jax.random.key(0), x, *queries)["params"]
  params = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes
  )
  flat = traverse_util.flatten_dict(params, sep="__")
  arrays = {f"p__{name}": value for name, value in flat.items()}
  out = jax.jit(head.apply)({"params": params}, x, *queries)
  return {"inputs": x, **arrays}, out


def test_sizes_are_read_off_the_weights(tmp_path, capsys):
  head = heads.DenseHead(
    output="depth",
    channels=1,
    num_frames=6,
    frame_size=(8, 24),
    trunk=Trunk(width=12, num_heads=3),
  )
  arrays, out = _case(head)
  np.savez(tmp_path / "depth_c.npz", **arrays, output=out["depth"])
  queries = np.array([[[0.1, 0.2, 0.5, 0.9]]], np.float32)
  head = heads.BoxHead(
    num_frames=6, trunk=Trunk(6, 1), query_hidden=7, query_width=9
  )
  arrays, out = _case(head, queries)
  arrays |= {"queries": queries, "out_values": out["boxes"]}
  np.savez(tmp_path / "boxes.npz", **arrays)
  assert check_readouts.check_folder(tmp_path)
  assert capsys.readouterr().out.count(" ok\n") == 2

  arrays["out_values"] = arrays["out_values"] * 1.0002
  np.savez(tmp_path / "boxes.npz", **arrays)
  assert not check_readouts.check_folder(tmp_path)
  assert capsys.readouterr().out.count(" DIFFERS\n") == 1


def test_nothing_to_compare_is_a_failure(tmp_path):
  assert not check_readouts.check_folder(tmp_path)


@pytest.mark.parametrize(
  ("result", "worst"),
  [([1.0, 2.0], 0.0), ([1.0, 2.5], 0.5), ([1.0, np.nan], np.inf)],
)
def test_errors(result, worst):
  absolute, relative = check_readouts.errors(result, [1.0, 2.0])
  assert absolute == worst
  assert relative == worst / 2


def test_the_official_patch_is_preferred():
  assert check_readouts.dense_patch(128, 32, (16, 16, 16)) == (2, 8, 8)
  assert check_readouts.dense_patch(32, 16, (8, 8, 8)) == (2, 4, 4)
  with pytest.raises(ValueError, match="do not fill"):
    check_readouts.dense_patch(128, 31, (16, 16, 16))
