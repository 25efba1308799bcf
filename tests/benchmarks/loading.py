"""Peak host memory of loading a checkpoint, over the size of its file.

python tests/benchmarks/loading.py --gigabytes=4

Writes one synthetic V-JEPA 2 of giant width in each format, loads each in a
process of its own and prints the highest resident memory of that process,
interpreter and libraries included. The aim is 1.15 for float32.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
WIDTH, MLP, HEADS = 1408, 6144, 22
BLOCK_BYTES = 4 * (4 * WIDTH**2 + 2 * WIDTH * MLP + 9 * WIDTH + MLP)


def official(depth):
  """Returns names and shapes of the torch files."""
  shapes = {
    "patch_embed.proj.weight": (WIDTH, 3, 2, 16, 16),
    "patch_embed.proj.bias": (WIDTH,),
    "norm.weight": (WIDTH,),
    "norm.bias": (WIDTH,),
  }
  for i in range(depth):
    shapes |= {
      f"blocks.{i}.{name}": shape
      for name, shape in (
        ("norm1.weight", (WIDTH,)),
        ("norm1.bias", (WIDTH,)),
        ("attn.qkv.weight", (3 * WIDTH, WIDTH)),
        ("attn.qkv.bias", (3 * WIDTH,)),
        ("attn.proj.weight", (WIDTH, WIDTH)),
        ("attn.proj.bias", (WIDTH,)),
        ("norm2.weight", (WIDTH,)),
        ("norm2.bias", (WIDTH,)),
        ("mlp.fc1.weight", (MLP, WIDTH)),
        ("mlp.fc1.bias", (MLP,)),
        ("mlp.fc2.weight", (WIDTH, MLP)),
        ("mlp.fc2.bias", (WIDTH,)),
      )
    }
  return shapes


def values(shape):
  """Returns an array, the same for a shape whoever asks."""
  return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 977


def write_safetensors(path, shapes):
  """Writes one array after another; the library would want all at once."""
  header, start = {}, 0
  for name, shape in shapes.items():
    end = start + 4 * int(np.prod(shape))
    header[name] = {
      "dtype": "F32",
      "shape": shape,
      "data_offsets": [start, end],
    }
    start = end
  text = json.dumps(header).encode()
  with path.open("wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for shape in shapes.values():
      file.write(values(shape).data)


def write_npz(path, shapes):
  """Writes one array after another."""
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
    for name, shape in shapes.items():
      with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, values(shape))


def write_pth(path, shapes):
  """Writes the container of the official files."""
  sys.path.append(str(ROOT / "tests" / "backbones"))
  from torch_writer import View, write_torch

  class Lazy:
    """Looks like a storage; its numbers exist while they are written."""

    dtype = np.dtype(np.float32)

    def __init__(self, shape):
      self.shape, self.size = shape, int(np.prod(shape))

    def __array__(self, dtype=None, copy=None):
      del dtype, copy
      return values(self.shape)

  def view(shape):
    strides = np.cumprod([1, *shape[:0:-1]])[::-1]
    return View(Lazy(shape), 0, shape, tuple(map(int, strides)))

  tree = {f"module.backbone.{k}": view(shape) for k, shape in shapes.items()}
  write_torch(path, {"target_encoder": tree, "epoch": 1})


WRITERS = {
  ".npz": write_npz,
  ".safetensors": write_safetensors,
  ".pth": write_pth,
}


def memory(field):
  """Returns a line of /proc/self/status in bytes."""
  for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith(field + ":"):
      return int(line.split()[1]) * 1024
  raise KeyError(field)


def load(path, depth, dtype):
  """Loads a file and prints this process's memory, as JSON."""
  import jax.numpy as jnp

  from forecasting.backbones.encode import parameter_shapes
  from forecasting.backbones.spec import BackboneSpec
  from forecasting.backbones.weights import load_weights
  from forecasting.backbones.zoo import FAMILIES

  spec = BackboneSpec(
    name="synthetic",
    family="vjepa2",
    resolution=64,
    num_frames=16,
    tubelet=2,
    patch=16,
    width=WIDTH,
    depth=depth,
    heads=HEADS,
    mlp_dim=MLP,
  )
  shapes = parameter_shapes(spec)
  jnp.zeros(1).block_until_ready()
  before, start = memory("VmRSS"), time.perf_counter()
  params = load_weights(
    path, shapes, FAMILIES["vjepa2"], spec, dtype=jnp.dtype(dtype)
  )
  seconds = time.perf_counter() - start
  kernel = params["encoder"][f"layers_{depth - 1}"]["mlp"]["dense_in"]["kernel"]
  expected = values((MLP, WIDTH)).T[3].astype(dtype)
  np.testing.assert_array_equal(np.asarray(kernel[3]), expected)
  print(
    json.dumps({"before": before, "peak": memory("VmHWM"), "seconds": seconds})
  )


def main():
  """Writes, loads, prints, deletes."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--gigabytes", type=float, default=4.0)
  parser.add_argument("--formats", nargs="+", default=list(WRITERS))
  parser.add_argument("--folder", type=Path, help="for the temporary files")
  parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.load:
    path, depth, dtype = args.load
    load(Path(path), int(depth), dtype)
    return
  depth = max(1, round(args.gigabytes * 1e9 / BLOCK_BYTES))
  shapes = official(depth)
  for suffix in args.formats:
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
      path = Path(folder) / f"weights{suffix}"
      WRITERS[suffix](path, shapes)
      size = path.stat().st_size
      for dtype in ("float32", "bfloat16"):
        command = [sys.executable, __file__, "--load", path, str(depth), dtype]
        done = subprocess.run(
          command,
          check=True,
          stdout=subprocess.PIPE,
          env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        )
        found = json.loads(done.stdout)
        print(
          f"{suffix:12s} {size / 1e9:.2f} GB as {dtype:8s}: peak"
          f" {found['peak'] / 1e9:.2f} GB, {found['peak'] / size:.3f} x file,"
          f" {(found['peak'] - found['before']) / size:.3f} x above the"
          f" {found['before'] / 1e9:.2f} GB before; {found['seconds']:.1f} s",
          flush=True,
        )


if __name__ == "__main__":
  main()
