"""Training steps of our denoiser and of a DiT in PyTorch, on the same cores.

/path/to/venv/bin/python tests/benchmarks/train_step.py [--threads 1]
  [--width 384 --depth 4 --heads 6 --grid 8 --batch 2] [--profile]

Needs the [parity] extra and, for torch.compile, a C++ compiler. One step is
noise, forward, backward and the AdamW update, without clipping or averaging, in
float32. Both sides have the same width, depth, heads, tokens and batch; the DiT
(`dit.py`) sees context and target as one sequence, ours the context in a stream
of its own, which --draws noise levels of an example share. Three processes take
turns: ours, PyTorch eager and compiled. Prints medians and ratios of
neighboring turns; the aim is 1.3 of compiled. On one thread --clock=cpu counts
the seconds of the process alone.
`--profile` adds where the time goes: the FLOPs of matrix products over the rate
of one large product in the same framework is the time they must take.
"""

import argparse
import statistics
import sys
from collections.abc import Callable

import numpy as np
import turns

SIDES = ("ours", "compiled", "eager")
MATMUL_SIZE = 1536
RATE = 1e-4


def latents(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
  """Returns random context and future."""
  rng = np.random.default_rng(0)
  grid = (options.grid, options.grid, options.channels)
  return tuple(
    rng.standard_normal((options.batch, slots, *grid), np.float32)
    for slots in (options.tc, options.tf)
  )


def with_jax(options: argparse.Namespace):
  """Returns a function that makes one step, and notes."""
  import jax
  import jax.numpy as jnp
  import optax

  from forecasting.config import forecaster_config
  from forecasting.forecaster import count
  from forecasting.forecaster.base import LatentSpec
  from forecasting.forecaster.registry import make_forecaster
  from forecasting.training.optimizer import make_optimizer

  config = forecaster_config()
  config.model.update(
    width=options.width, depth=options.depth, heads=options.heads
  )
  config.flow.noise_multiplicity = options.draws
  config.optimizer.update(learning_rate=RATE, clip_norm=0.0, weight_decay=0.01)
  spec = LatentSpec(
    options.tc, options.tf, options.grid, options.grid, options.channels
  )
  forecaster = make_forecaster("flow", config, spec, None)
  optimizer = make_optimizer(config.optimizer, 10**6)
  context, future = (jnp.asarray(x) for x in latents(options))
  slots = options.tc + options.tf
  batch = {
    "context": context,
    "future": future,
    "times": jnp.tile(0.08 * jnp.arange(slots), (options.batch, 1)),
  }

  def step(params, moments, batch, key):
    def mean_loss(params):
      return forecaster.loss(params, batch, key)[0].mean()

    value, grads = jax.value_and_grad(mean_loss)(params)
    updates, moments = optimizer.update(grads, moments, params)
    return optax.apply_updates(params, updates), moments, value

  params = forecaster.init(jax.random.key(0))
  state = [params, optimizer.init(params)]
  compiled = jax.jit(step, donate_argnums=(0, 1))
  key = jax.random.key(1)

  def run() -> None:
    *state[:], value = compiled(*state, batch, key)
    value.block_until_ready()

  square = jnp.ones((MATMUL_SIZE, MATMUL_SIZE))
  product = jax.jit(lambda x: x @ x)
  flops = count.count_flops(forecaster.network.config, spec)
  return run, {
    "rate": matmul_rate(
      lambda: product(square).block_until_ready(), options.clock
    ),
    "flops": 3 * options.batch * (flops.context + options.draws * flops.call),
    "parameters": sum(x.size for x in jax.tree.leaves(params)),
  }


def with_torch(options: argparse.Namespace, is_compiled: bool):
  """Returns a function that makes one step, and notes."""
  import dit
  import torch

  torch.set_num_threads(options.threads)
  torch.manual_seed(0)
  # Each noise level of an example is a sequence of its own.
  context, future = (
    torch.from_numpy(x).flatten(1, 3).repeat_interleave(options.draws, dim=0)
    for x in latents(options)
  )
  sizes = (options.width, options.depth)
  tokens = (context.shape[1], future.shape[1])
  model = dit.Transformer(*sizes, options.heads, options.channels, sum(tokens))
  optimizer = torch.optim.AdamW(
    model.parameters(), RATE, (0.9, 0.95), weight_decay=0.01, fused=True
  )
  loss = torch.compile(dit.loss) if is_compiled else dit.loss

  def run() -> None:
    optimizer.zero_grad(set_to_none=True)
    loss(model, context, future).backward()
    optimizer.step()

  square = torch.ones(MATMUL_SIZE, MATMUL_SIZE)
  flops = dit.count_flops(*sizes, options.channels, *tokens)
  return run, {
    "rate": matmul_rate(lambda: square @ square, options.clock),
    "flops": 3 * len(future) * flops,
    "parameters": sum(x.numel() for x in model.parameters()),
  }


def matmul_rate(product: Callable[[], object], clock: str) -> float:
  """Returns operations per second of a large matrix product."""
  measure = turns.timed(product, clock)
  return 2 * MATMUL_SIZE**3 / min(measure() for _ in range(8))


def compare(options: argparse.Namespace) -> None:
  """Lets the sides take turns and prints what came out."""
  sides = {
    name: turns.Side(
      [sys.executable, __file__, *sys.argv[1:], f"--side={name}"],
      options.threads,
    )
    for name in options.sides
  }
  runs = {name: side.run for name, side in sides.items()}
  seconds = turns.take_turns(runs, options.repeats)
  for name, side in sides.items():
    side.close()
    median, notes = statistics.median(seconds[name]), side.notes
    line = (
      f"{name}: {1e3 * median:.0f} ms a step,"
      f" {notes['parameters'] / 1e6:.1f} M parameters"
    )
    if options.profile:
      products = notes["flops"] / notes["rate"]
      line += (
        f", {notes['flops'] / 1e9:.0f} GFLOP of matrix products, at the"
        f" {notes['rate'] / 1e9:.0f} GFLOP/s of a large one"
        f" {1e3 * products:.0f} ms or {products / median:.0%} of the step"
      )
    print(line)
    if name != "ours":
      print(f"  {name} / ours: {turns.ratio(seconds[name], seconds['ours'])}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
  """Returns the sizes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--width", type=int, default=384)
  parser.add_argument("--depth", type=int, default=4)
  parser.add_argument("--heads", type=int, default=6)
  parser.add_argument("--grid", type=int, default=8, help="rows and columns")
  parser.add_argument("--tc", type=int, default=2, help="context slots")
  parser.add_argument("--tf", type=int, default=6, help="future slots")
  parser.add_argument("--channels", type=int, default=256)
  parser.add_argument("--batch", type=int, default=2)
  parser.add_argument("--draws", type=int, default=1, help="noise levels")
  parser.add_argument("--threads", type=int, default=1)
  parser.add_argument("--repeats", type=int, default=8)
  parser.add_argument("--clock", choices=turns.CLOCKS, default="wall")
  parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
  parser.add_argument("--profile", action="store_true")
  parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
  return parser.parse_args(arguments)


def main() -> None:
  """Compares, or is one side."""
  options = parse()
  if not options.side:
    compare(options)
  elif options.side == "ours":
    turns.serve(*with_jax(options), options.clock)
  else:
    is_compiled = options.side == "compiled"
    turns.serve(*with_torch(options, is_compiled), options.clock)


if __name__ == "__main__":
  main()
