"""Memory of drawing futures, by their number.

python tests/benchmarks/memory.py [--samples 1 10 50] [--chunk 5]

Compiles `flow`'s sampler for K futures of a batch, drawn a chunk at a time as
in an evaluation and all at once, and prints what XLA allots: `temp` is what a
call needs beside parameters, inputs and the futures themselves. Chunked, temp
must not grow with K but by the drawn futures. With --rss each case also runs,
in a process of its own, and its peak resident memory above that of a process
that only compiled is printed.
"""

import argparse
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp

from forecasting.config import forecaster_config
from forecasting.forecaster import registry
from forecasting.forecaster.base import LatentSpec

MIB = 2**20


def lower(options: argparse.Namespace, samples: int, chunk: int):
  """Returns the compiled sampler and its arguments' shapes."""
  config = forecaster_config()
  config.model.update(
    width=options.width, depth=options.depth, heads=options.heads
  )
  config.sampler.chunk = chunk
  spec = LatentSpec(2, 6, options.grid, options.grid, options.channels)
  flow = registry.make_forecaster("flow", config, spec, None)
  grid = (spec.h, spec.w, spec.channels)
  shapes = (
    jax.eval_shape(flow.init, jax.random.key(0)),
    jax.ShapeDtypeStruct((options.batch, spec.tc, *grid), jnp.float32),
    jax.ShapeDtypeStruct((options.batch, 8), jnp.float32),
    jax.eval_shape(lambda: jax.random.split(jax.random.key(0), options.batch)),
  )
  sample = jax.jit(lambda *inputs: flow.sample(*inputs, samples))
  return sample.lower(*shapes).compile(), shapes


def measure(
  options: argparse.Namespace, samples: int, chunk: int
) -> dict[str, float]:
  """Returns mebibytes of the futures and of the rest."""
  stats = lower(options, samples, chunk)[0].memory_analysis()
  return {
    "futures": stats.output_size_in_bytes / MIB,
    "temp": stats.temp_size_in_bytes / MIB,
  }


def resident(options: argparse.Namespace, samples: int, chunk: int) -> float:
  """Returns how much a run raises this process's peak, in mebibytes."""
  run, shapes = lower(options, samples, chunk)
  inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[:3])
  keys = jax.random.split(jax.random.key(0), options.batch)
  jax.block_until_ready((inputs, keys))
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  run(*inputs, keys).block_until_ready()
  return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main(arguments: list[str] | None = None) -> None:
  """Prints a line for every number of futures."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--width", type=int, default=384)
  parser.add_argument("--depth", type=int, default=4)
  parser.add_argument("--heads", type=int, default=6)
  parser.add_argument("--grid", type=int, default=8, help="rows and columns")
  parser.add_argument("--channels", type=int, default=256)
  parser.add_argument("--batch", type=int, default=2)
  parser.add_argument("--samples", type=int, nargs="+", default=[1, 10, 50])
  parser.add_argument("--chunk", type=int, default=5)
  parser.add_argument("--rss", action="store_true")
  parser.add_argument("--case", type=int, nargs=2, help=argparse.SUPPRESS)
  options = parser.parse_args(arguments)
  if options.case:
    print("peak", resident(options, *options.case))
    return
  for samples in options.samples:
    for name, chunk in (("chunked", options.chunk), ("at once", samples)):
      sizes = measure(options, samples, chunk)
      each = sizes["temp"] / samples / options.batch
      line = (
        f"K={samples} {name}: futures {sizes['futures']:.1f} MiB, temp"
        f" {sizes['temp']:.1f} MiB, {each:.2f} MiB a future"
      )
      if options.rss:
        command = [sys.executable, __file__, *(arguments or sys.argv[1:])]
        child = subprocess.run(
          [*command, "--case", str(samples), str(chunk)],
          check=True,
          stdout=subprocess.PIPE,
          text=True,
        )
        line += f", resident +{float(child.stdout.split()[-1]):.0f} MiB"
      print(line, flush=True)


if __name__ == "__main__":
  main()
