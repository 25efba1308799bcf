"""Clips per second of our encoders and of transformers' PyTorch models.

python tests/benchmarks/encode.py --backbones videomae_b dinov2_b videoprism_b

Needs the [parity] extra. Each side is a process of its own with the same batch
on the same cores; they take turns, so that whatever else the machine does
hits both. On one thread --clock=cpu counts the seconds of the process alone.
Prints the median of each and of the ratios of neighboring turns; the aim on a
CPU is 1.3. Weights are random, nothing is downloaded. On an accelerator add
--dtype=bfloat16 --compile --matmul: PyTorch is compiled, and the last column
is the fraction of the device's own rate in matrix products.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

WARM_UP = 2  # compiling, and caches
MATMUL_SIZE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


def chosen(options: argparse.Namespace):
  """Returns the spec, with fewer blocks if that was asked for."""
  from forecasting.backbones.zoo import get_spec

  spec = get_spec(options.backbone)
  return dataclasses.replace(spec, depth=options.blocks or spec.depth)


def clips(spec, batch: int) -> np.ndarray:
  """Returns random frames in [0, 1]."""
  shape = (batch, spec.num_frames, *spec.frame_size, 3)
  return np.random.default_rng(0).random(shape, np.float32)


def with_jax(options: argparse.Namespace) -> Callable[[], None]:
  """Returns a function that encodes one batch with our network."""
  import jax
  import jax.numpy as jnp

  from forecasting.backbones import encode

  spec, dtype = chosen(options), encode.DTYPES[options.dtype]
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: jnp.asarray(
      0.02 * rng.standard_normal(x.shape, np.float32), dtype
    ),
    encode.parameter_shapes(spec),
  )
  backbone = encode.Backbone(
    spec, params, "random", spec.depth, spec.context_mode, dtype
  )
  run, video = jax.jit(backbone.encode), jnp.asarray(clips(spec, options.batch))
  if options.matmul:
    compiled = run.lower(params, video).compile()
    flops = compiled.cost_analysis()["flops"]
    print("note", flops / options.batch, matmul_rate(jax, jnp, dtype))
  return lambda: run(params, video).block_until_ready()


def matmul_rate(jax, jnp, dtype) -> float:
  """Returns operations per second of one large matrix product."""
  size = MATMUL_SIZE[jax.default_backend()]
  x = jax.random.normal(jax.random.key(0), (size, size), dtype)
  product = jax.jit(lambda x: x @ x)
  seconds = []
  for _ in range(10):
    start = time.perf_counter()
    product(x).block_until_ready()
    seconds.append(time.perf_counter() - start)
  return 2 * size**3 / min(seconds)


def with_torch(options: argparse.Namespace) -> Callable[[], None]:
  """Returns a function that encodes one batch with transformers' network."""
  import torch
  import transformers

  torch.set_num_threads(options.threads)
  spec = chosen(options)
  shape = {
    "hidden_size": spec.width,
    "num_hidden_layers": spec.depth,
    "num_attention_heads": spec.heads,
    "intermediate_size": spec.mlp_dim,
    "patch_size": spec.patch,
    "image_size": spec.resolution,
  }
  if spec.family == "videoprism":
    temporal = spec.sizes["temporal_depth"]
    shape |= {
      "num_spatial_layers": spec.depth - temporal,
      "num_temporal_layers": temporal,
      "num_frames": spec.num_frames,
      "tubelet_size": [1, spec.patch, spec.patch],
    }
  kind = {
    "dinov2": "Dinov2",
    "siglip": "SiglipVision",
    "videomae": "VideoMAE",
    "videoprism": "VideoPrismVision",
  }[spec.family]
  config = getattr(transformers, f"{kind}Config")(**shape)
  device = "cuda" if torch.cuda.is_available() else "cpu"
  dtype = getattr(torch, options.dtype)
  model = getattr(transformers, f"{kind}Model")(config)
  model = model.eval().to(device, dtype)
  if options.compile:
    model = torch.compile(model)
  video = torch.from_numpy(clips(spec, options.batch)).permute(0, 1, 4, 2, 3)
  if spec.family in ("dinov2", "siglip"):
    video = video.flatten(0, 1)
  video = video.contiguous().to(device, dtype)

  def run() -> None:
    with torch.inference_mode():
      model(video)
    if device == "cuda":
      torch.cuda.synchronize()

  return run


def serve(options: argparse.Namespace) -> None:
  """Encodes a batch for every line of the input and prints its seconds."""
  run = {"jax": with_jax, "torch": with_torch}[options.side](options)
  for _ in range(WARM_UP):
    run()
  print("ready", flush=True)
  clock = {"wall": time.perf_counter, "cpu": time.process_time}[options.clock]
  for _ in sys.stdin:
    start = clock()
    run()
    print(clock() - start, flush=True)


def start(side: str, backbone: str, options: argparse.Namespace):
  """Returns the process of one side and what it noted, when it is warm."""
  command = [
    sys.executable,
    __file__,
    f"--side={side}",
    f"--batch={options.batch}",
  ]
  command += [f"--backbone={backbone}", f"--threads={options.threads}"]
  command += [f"--dtype={options.dtype}", f"--clock={options.clock}"]
  command += [f"--blocks={options.blocks}"] * bool(options.blocks)
  command += ["--compile"] * options.compile + ["--matmul"] * options.matmul
  cores = sorted(os.sched_getaffinity(0))[: options.threads]
  process = subprocess.Popen(
    command,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    # XLA takes a thread for every core that it sees.
    preexec_fn=lambda: os.sched_setaffinity(0, cores),
  )
  note = []
  for line in process.stdout:
    if line.startswith("note"):
      note = [float(word) for word in line.split()[1:]]
    if line.strip() == "ready":
      return process, note
  raise RuntimeError(f"the {side} side of {backbone} ended; see above")


def compare(backbone: str, options: argparse.Namespace) -> None:
  """Lets both sides take turns and prints a line."""
  sides = {side: start(side, backbone, options) for side in ("jax", "torch")}
  seconds = {side: [] for side in sides}
  for turn in range(options.repeats):
    # Each side begins every other turn.
    for side in sorted(sides, reverse=bool(turn % 2)):
      process, _ = sides[side]
      print(file=process.stdin, flush=True)
      seconds[side].append(float(process.stdout.readline()))
  for process, _ in sides.values():
    process.stdin.close()
    process.wait()
  ours, theirs = (options.batch / statistics.median(seconds[x]) for x in sides)
  ratios = [t / j for j, t in zip(seconds["jax"], seconds["torch"])]
  line = (
    f"{backbone}: {ours:.3g} clips/s, PyTorch {theirs:.3g}, ratio"
    f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
  )
  if note := sides["jax"][1]:
    flops, rate = note
    line += f", {ours * flops / rate:.0%} of {rate / 1e12:.3g} TFLOP/s"
  print(line, flush=True)


def main() -> None:
  """Compares every backbone."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--backbones", nargs="+", default=["videomae_b", "dinov2_b", "videoprism_b"]
  )
  parser.add_argument("--batch", type=int, default=1)
  parser.add_argument("--threads", type=int, default=1)
  parser.add_argument("--repeats", type=int, default=10)
  parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
  parser.add_argument("--blocks", type=int, help="fewer, to be quick")
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--compile", action="store_true")
  parser.add_argument("--matmul", action="store_true")
  parser.add_argument("--side", help=argparse.SUPPRESS)
  parser.add_argument("--backbone", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.side:
    serve(options)
    return
  for backbone in options.backbones:
    compare(backbone, options)


if __name__ == "__main__":
  main()
