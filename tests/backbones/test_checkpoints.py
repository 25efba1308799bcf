"""Every format through the one door, whole and damaged."""

import json
import subprocess
import sys
import weakref

import fast_compile
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file
from torch_writer import write_torch

from forecasting.backbones import weights
from forecasting.backbones.checkpoints import CheckpointError, open_checkpoint
from forecasting.backbones.zoo import FAMILIES, get_spec

TREE = {
  "encoder": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)},
  "norm": {"scale": np.arange(3).astype(ml_dtypes.bfloat16)},
}
FLAT = flatten_dict(TREE, sep="/")


def save_orbax(path, tree):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(path.absolute(), tree)


WRITERS = {
  ".npz": lambda path: np.savez(path, **FLAT),
  ".safetensors": lambda path: save_file(FLAT, path),
  ".pth": lambda path: write_torch(path, FLAT),
  "": lambda path: save_orbax(path, TREE),
}


def read(path):
  with open_checkpoint(path) as entries:
    return {name: np.asarray(load()) for name, load in entries}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_reads_the_same(suffix, tmp_path):
  path = tmp_path / f"w{suffix}"
  WRITERS[suffix](path)
  found = read(path)
  assert found.keys() == FLAT.keys()
  for name, array in FLAT.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damage_is_one_kind_of_error(suffix, tmp_path):
  path = tmp_path / f"w{suffix}"
  WRITERS[suffix](path)
  whole = path.read_bytes()
  rng = np.random.default_rng(0)
  files = [whole[:n] for n in rng.integers(0, len(whole), 40)]
  for _ in range(200):
    data = bytearray(whole)
    for place in rng.integers(0, len(data), rng.integers(1, 4)):
      data[place] = rng.integers(256)
    files.append(bytes(data))
  refused = 0
  for data in files:
    path.write_bytes(data)
    try:
      read(path)
    except CheckpointError:
      refused += 1
  assert refused > 60


def test_damage_that_shows_while_reading(tmp_path):
  path = tmp_path / "w.safetensors"
  WRITERS[".safetensors"](path)
  whole = path.read_bytes()
  with open_checkpoint(path) as entries:
    _, load = next(entries)
    path.write_bytes(whole[:-30])
    with pytest.raises(CheckpointError, match="truncated"):
      load()


def test_errors_of_the_caller_stay_what_they_are(tmp_path):
  path = tmp_path / "w.npz"
  WRITERS[".npz"](path)
  with pytest.raises(KeyError), open_checkpoint(path):
    raise KeyError("not about the file")


@pytest.mark.parametrize(
  "entry",
  [
    {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
    {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
    {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
    {},
    7,
  ],
)
def test_impossible_safetensors(entry, tmp_path):
  header = json.dumps({"a": entry}).encode()
  path = tmp_path / "w.safetensors"
  path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
  with pytest.raises(CheckpointError):
    read(path)


def test_orbax_lists_items_and_damage(tmp_path):
  save_orbax(tmp_path / "one" / "params", {"layers": [np.ones(2), np.ones(3)]})
  assert {k: v.shape for k, v in read(tmp_path / "one").items()} == {
    "layers/0": (2,),
    "layers/1": (3,),
  }
  save_orbax(tmp_path / "one" / "ema", {"a": np.ones(2)})
  with pytest.raises(CheckpointError, match="folders in it that do: ema, para"):
    read(tmp_path / "one")
  with pytest.raises(CheckpointError, match="that do: none"):
    read(tmp_path)
  (tmp_path / "one" / "ema" / "_METADATA").write_text("{")
  with pytest.raises(CheckpointError, match="Orbax folder: it is truncated"):
    read(tmp_path / "one" / "ema")


@pytest.mark.parametrize("suffix", WRITERS)
def test_one_array_at_a_time(suffix, tmp_path):
  path = tmp_path / f"w{suffix}"
  WRITERS[suffix](path)
  placed = []

  def place(array):
    assert not any(earlier() is not None for earlier in placed)
    placed.append(weakref.ref(array))
    return np.zeros(())

  weights.load_weights(
    path, TREE, FAMILIES["4ds"], get_spec("4ds_tiny"), place=place
  )
  assert len(placed) == len(FLAT)


def test_digest_of_a_folder_changes_with_a_file(tmp_path):
  save_orbax(tmp_path / "w", TREE)
  before = weights.file_digest(tmp_path / "w")
  (tmp_path / "w" / "_METADATA").rename(tmp_path / "w" / "_metadata")
  assert weights.file_digest(tmp_path / "w") != before


FOUR_DEVICES = """
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from forecasting.backbones.encode import load_backbone

mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(AxisType.Auto,))

def place(array):
  split = [None] * array.ndim
  for axis, size in enumerate(array.shape):
    if size % 4 == 0:
      split[axis] = "fsdp"
      break
  return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*split)))

whole = load_backbone("4ds_tiny", dtype="bfloat16")
spread = load_backbone("4ds_tiny", dtype="bfloat16", place=place)

def check(a, b):
  assert b.dtype == "bfloat16"
  assert len(b.addressable_shards) == 4
  # Only tables of positions and small kernels have no axis to split.
  assert b.addressable_shards[0].data.size * 4 == b.size, b.shape
  np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

jax.tree.map(check, whole.params, spread.params)
print("ok")
"""


def test_straight_into_shards_of_four_devices():
  done = subprocess.run(
    [sys.executable, "-c", FOUR_DEVICES],
    env=fast_compile.environment(4),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stdout == "ok\n", done.stderr[-2000:]


def test_bfloat16_rounds_each_number_once(tmp_path):
  path = tmp_path / "w.npz"
  values = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
  np.savez(path, **{**FLAT, "encoder/kernel": values})
  loaded = weights.load_weights(
    path, TREE, FAMILIES["4ds"], get_spec("4ds_tiny"), dtype=jnp.bfloat16
  )
  kernel = loaded["encoder"]["kernel"]
  assert kernel.dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    np.asarray(kernel), values.astype(ml_dtypes.bfloat16)
  )
