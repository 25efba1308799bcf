"""Files of torch: what is read, and what never happens while reading."""

import argparse
import collections
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from torch_writer import Raw, View, text, write_torch

from forecasting.backbones.checkpoints import CheckpointError, open_checkpoint
from forecasting.backbones.torch_files import _Machine


def read(path, containers=()):
  with open_checkpoint(path, containers) as entries:
    return {name: np.array(load()) for name, load in entries}


def assert_same(found, expected):
  assert list(found) == list(expected)
  for name, array in expected.items():
    assert found[name].dtype == array.dtype, name
    np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
  ("name", "container"),
  [
    ("dinov2_a", ()),
    ("videomae_a", ("module", "model")),
    ("videomaev2_b", ("module", "model")),
    ("vjepa_b", ("target_encoder", "encoder")),
    ("nextvid_encoder_a", ("encoder", "target_encoder")),
  ],
)
def test_reads_what_torch_wrote(name, container, goldens):
  expected = load_file(goldens.folder / f"{name}.safetensors")
  found = read(goldens.folder / f"{name}.pth", container)
  assert found.keys() == expected.keys()
  assert_same({k: found[k] for k in expected}, expected)


@pytest.mark.parametrize(
  "dtype",
  [
    *(np.float32, np.float64, np.float16, ml_dtypes.bfloat16),
    *(np.int64, np.uint8, np.bool_),
  ],
)
def test_kinds_of_numbers(dtype, tmp_path):
  arrays = {
    "matrix": (np.arange(6).reshape(2, 3) * 0.75).astype(dtype),
    "scalar": np.array(1, dtype),
    "empty": np.zeros((0, 3), dtype),
  }
  write_torch(tmp_path / "w.pth", arrays)
  assert_same(read(tmp_path / "w.pth"), arrays)


def test_views_of_a_shared_storage(tmp_path):
  storage = np.arange(24, dtype=np.float32)
  cube = storage.reshape(2, 3, 4)
  write_torch(
    tmp_path / "w.pt",
    {
      "part": View(storage, 4, (2, 4), (12, 1)),
      "transposed": View(storage, 0, (4, 3, 2), (1, 4, 12)),
      "column": View(storage, 3, (3,), (4,)),
      "repeated": View(storage, 5, (2, 3), (0, 1)),
      "last": View(storage, 23, (), ()),
    },
  )
  assert_same(
    read(tmp_path / "w.pt"),
    {
      "part": cube[:, 1],
      "transposed": cube.transpose(2, 1, 0),
      "column": cube[0, :, 3],
      "repeated": np.stack([storage[5:8]] * 2),
      "last": storage[23],
    },
  )


def test_containers_in_order_of_preference(tmp_path):
  path = tmp_path / "w.pth.tar"
  one, two = np.ones(2, np.float32), np.full(3, 2, np.float32)
  write_torch(path, {"encoder": {"a": one}, "ema": {"b": {"c": two}}})
  assert_same(read(path, ("ema", "encoder")), {"b.c": two})
  assert_same(read(path, ("none", "encoder")), {"a": one})
  assert_same(read(path, ("none",)), {"encoder.a": one, "ema.b.c": two})


def test_leaves_out_what_is_no_array(tmp_path):
  path = tmp_path / "w.pth"
  weight = np.ones(2, np.float32)
  number = Raw(b"cnumpy.core.multiarray\nscalar\n)R")
  tree = {"a": weight, "epoch": 3, "lr": 0.1, "best": number, "name": "x"}
  write_torch(path, tree)
  assert_same(read(path), {"a": weight})


@pytest.mark.parametrize("protocol", range(6))
def test_containers_of_every_protocol(protocol):
  shared = [1, -5, 2**40, 0.5, "text", None, True]
  tree = {
    "list": shared,
    "again": shared,
    "tuple": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "ordered": collections.OrderedDict(a={"b": {}}),
    "many": {str(i): i for i in range(2000)},
  }
  assert _Machine(pickle.dumps(tree, protocol)).run() == tree


def test_runs_nothing(tmp_path):
  trace = tmp_path / "trace"
  call = b"cposix\nsystem\n(" + text(f"touch {trace}") + b"tR"
  weight = np.ones(2, np.float32)
  write_torch(tmp_path / "w.pth", {"a": weight, "b": Raw(call)})
  assert_same(read(tmp_path / "w.pth"), {"a": weight})
  assert not trace.exists()
  # The same program does run where Python's own reader gets it.
  pickle.loads(b"\x80\x02" + call + b".")
  assert trace.exists()


def test_state_of_objects_is_not_set(tmp_path):
  settings = argparse.Namespace(lr=0.1)
  program = pickle.dumps(settings, 2)[2:-1]
  weight = np.ones(2, np.float32)
  write_torch(tmp_path / "w.pth", {"args": Raw(program), "a": weight})
  assert_same(read(tmp_path / "w.pth"), {"a": weight})


@pytest.mark.parametrize(
  ("program", "complaint"),
  [
    (b"}q\x00(" + text("a") + b"h\x00u.", "nested without end"),  # in itself
    (b"](K\x01K\x02e.", "no dict of arrays"),
    (b"}(" + text("a") + b"u.", "truncated or damaged"),  # key, no value
    (b"}R.", "empty stack"),
    (b"h\x05.", "truncated or damaged"),
    (b"\x82\x01.", "EXT1"),
    (b"}", "truncated or damaged|no end"),
  ],
)
def test_refuses_bad_programs(program, complaint, tmp_path):
  path = tmp_path / "w.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", b"\x80\x02" + program)
  with pytest.raises(CheckpointError, match=complaint):
    read(path)


def test_refuses_explosions(tmp_path):
  # Each dict holds the one before it ten times: 10^15 names.
  program = b"}q\x00"
  for level in range(15):
    entries = b"".join(text(f"{i}") + b"h" + bytes([level]) for i in range(10))
    program += b"}(" + entries + b"uq" + bytes([level + 1])
  path = tmp_path / "w.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
  with pytest.raises(CheckpointError, match="nested without end"):
    read(path)


@pytest.mark.parametrize(
  ("view", "complaint"),
  [
    (View(np.ones(6, np.float32), 3, (2, 2), (2, 1)), "reaches beyond"),
    (View(np.ones(6, np.float32), 0, (2, 2), (1,)), "strides"),
    (View(np.ones(6, np.float32), -1, (2,), (1,)), "not plausible"),
    (View(np.ones(6, np.float32), 0, (2**40,), (0,)), "too often"),
  ],
)
def test_refuses_impossible_views(view, complaint, tmp_path):
  write_torch(tmp_path / "w.pth", {"a": view})
  with pytest.raises(CheckpointError, match=complaint):
    read(tmp_path / "w.pth")


def test_refuses_old_formats(tmp_path):
  path = tmp_path / "w.pth"
  path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2))
  with pytest.raises(CheckpointError, match=r"before torch 1\.6.*torch\.save"):
    read(path)
  path.write_bytes(b"no checkpoint at all")
  with pytest.raises(CheckpointError, match="truncated or damaged"):
    read(path)


def test_big_endian_and_compressed_files(tmp_path):
  path = tmp_path / "w.pth"
  write_torch(path, {"a": np.ones(2, np.float32)})
  with zipfile.ZipFile(path) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}

  def rewrite(compression, **changes):
    with zipfile.ZipFile(path, "w", compression) as archive:
      for name, data in (members | changes).items():
        archive.writestr(name, data)

  rewrite(zipfile.ZIP_STORED, **{"archive/byteorder": b"big"})
  with pytest.raises(CheckpointError, match="big-endian"):
    read(path)
  rewrite(zipfile.ZIP_DEFLATED)
  with pytest.raises(CheckpointError, match="compressed"):
    read(path)
  del members["archive/data/0"]
  rewrite(zipfile.ZIP_STORED)
  with pytest.raises(CheckpointError, match="a: its numbers"):
    read(path)


def test_damage_is_one_kind_of_error(tmp_path):
  path = tmp_path / "w.pth"
  weights = {"a": np.arange(6, dtype=np.float32), "b": {"c": np.ones((2, 2))}}
  write_torch(path, weights)
  whole = path.read_bytes()
  rng = np.random.default_rng(0)
  refused = 0
  cuts = [whole[:n] for n in rng.integers(0, len(whole), 60)]
  for _ in range(400):
    data = bytearray(whole)
    for place in rng.integers(0, len(data), rng.integers(1, 4)):
      data[place] = rng.integers(256)
    cuts.append(bytes(data))
  for data in cuts:
    path.write_bytes(data)
    try:
      read(path)
    except CheckpointError:
      refused += 1
  assert refused > 100
