"""Model-FLOP utilization of a training step and of sampling.

python tests/benchmarks/mfu.py --preset=base     (one GPU or TPU)
python tests/benchmarks/mfu.py --preset=tiny     (anywhere)

Latents are random, of the size that 4ds_e gives: 2 + 6 slots of 14 x 14 tokens
of 1792 channels, batches of 32. The training step is that of `main`: noise,
loss, gradient, clipping, AdamW, averaging. Sampling is that of an evaluation:
10 futures of 16 calls. FLOPs are the model's own matrix products (`count.py`; a
step is three times the forward pass, nothing recomputed counts). They are
compared with two rates: the device's own in one large matrix product of the
same type, and, where its name is known, the peak of its data sheet. Matrix
products are bfloat16 on accelerators, float32 on CPU. Networks narrower than
their tokens have the wide head; --head-width=0 leaves it out.

Source: the sizes are the presets of forecaster.md 7.4.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import turns

from forecasting.config import forecaster_config
from forecasting.forecaster import count, registry
from forecasting.forecaster.base import LatentSpec
from forecasting.training import mesh as mesh_lib
from forecasting.training import steps


@dataclasses.dataclass(frozen=True)
class Preset:
  """Sizes of network and latents.

  Attributes:
    model: fields of `config.forecaster.model`.
    spec: shape of the latents.
    batch: examples of a step.
    matmul: size of the matrix product that is the yardstick.
  """

  model: dict
  spec: LatentSpec
  batch: int
  matmul: int


# Dense bfloat16 operations per second of the data sheets, by the start of the
# device's name; of several the longest.
PEAKS = {
  "NVIDIA H200": 989e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H100 PCIe": 756e12,
  "NVIDIA A100": 312e12,
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
}
_HEAD = {"head_width": 2048, "head_depth": 2}
_LATENTS = LatentSpec(tc=2, tf=6, h=14, w=14, channels=1792)
PRESETS = {
  "tiny": Preset(
    {"width": 32, "depth": 1, "heads": 2},
    LatentSpec(tc=1, tf=2, h=2, w=2, channels=8),
    2,
    128,
  ),
  "small": Preset(
    {"width": 384, "depth": 8, "heads": 6, "head_width": 768, "head_depth": 1},
    dataclasses.replace(_LATENTS, channels=768),
    32,
    8192,
  ),
  "base": Preset(
    {"width": 1024, "depth": 16, "heads": 16, **_HEAD}, _LATENTS, 32, 8192
  ),
  "large": Preset(
    {"width": 1536, "depth": 24, "heads": 24, **_HEAD}, _LATENTS, 32, 8192
  ),
}


def peak_rate(kind: str, dtype: jnp.dtype) -> float | None:
  """Returns the peak of a device in operations per second, None if unknown.

  Args:
    kind: the name that JAX has for it.
    dtype: of matrix products.
  """
  known = [name for name in PEAKS if kind.startswith(name)]
  if dtype != jnp.bfloat16 or not known:
    return None
  return PEAKS[max(known, key=len)]


def matmul_rate(size: int, dtype: jnp.dtype) -> float:
  """Returns operations per second of a chain of large matrix products."""
  length = 8
  keys = jax.random.split(jax.random.key(0), 2)
  x, y = (
    jax.random.normal(key, (size, size), dtype) / size**0.5 for key in keys
  )

  @jax.jit
  def chain(x, y):
    return jax.lax.fori_loop(0, length, lambda _, x: x @ y, x)

  return length * 2 * size**3 / shortest(lambda: chain(x, y), 5)


def shortest(run: Callable[[], object], repeats: int) -> float:
  """Returns the least seconds of several runs, after one to warm up."""
  measure = turns.timed(lambda: jax.block_until_ready(run()))
  measure()
  return min(measure() for _ in range(repeats))


def make_flow(preset: Preset, options: argparse.Namespace):
  """Returns the configured forecaster and its config."""
  config = forecaster_config()
  config.model.update(preset.model)
  config.model.attention = options.attention
  if options.head_width is not None:
    config.model.head_width = options.head_width
  config.flow.noise_multiplicity = options.noise_multiplicity
  config.sampler.chunk = options.chunk
  flow = registry.make_forecaster("flow", config, preset.spec, None)
  return flow, config


def random_batch(preset: Preset, size: int) -> dict[str, jax.Array]:
  """Returns latents of the preset's size."""
  spec = preset.spec
  grid = (spec.h, spec.w, spec.channels)
  keys = jax.random.split(jax.random.key(0), 2)
  times = 0.08 * jnp.arange(spec.tc + spec.tf, dtype=jnp.float32)
  return {
    "context": jax.random.normal(keys[0], (size, spec.tc, *grid)),
    "future": jax.random.normal(keys[1], (size, spec.tf, *grid)),
    "times": jnp.tile(times, (size, 1)),
    "example_id": jnp.arange(size, dtype=jnp.uint32),
  }


def train(flow, config, preset: Preset, repeats: int):
  """Returns the seconds of training steps and the compiled step's memory."""
  trainee = steps.Trainee(
    name="flow",
    init=flow.init,
    loss=lambda params, batch, key: mean_loss(flow, params, batch, key),
    optimizer=config.optimizer,
    steps=config.steps,
    ema_decay=config.ema_decay,
  )
  mesh = mesh_lib.make_mesh(1)
  key = trainee.key(0)
  state = trainee.create_state(mesh, key)
  batch = random_batch(preset, preset.batch)
  step = steps.compile_step(trainee, mesh).lower(state, batch, key).compile()
  seconds = []
  for _ in range(repeats + 2):
    begin = time.perf_counter()
    state, metrics = step(state, batch, key)
    jax.block_until_ready(metrics)
    seconds.append(time.perf_counter() - begin)
  loss = float(metrics["loss"])
  if not loss < float("inf"):
    raise FloatingPointError(f"the loss of the step is {loss}")
  return seconds[2:], step.memory_analysis()


def mean_loss(flow, params, batch, key):
  """Returns the loss that the trainee descends, and its scalars."""
  losses, scalars = flow.loss(params, batch, key)
  return losses.mean(), scalars


def sample(flow, preset: Preset, size: int, number: int, repeats: int):
  """Returns the seconds of drawing futures and the memory it takes."""
  params = flow.init(jax.random.key(0))
  batch = random_batch(preset, size)
  keys = jax.random.split(jax.random.key(1), size)
  inputs = (params, batch["context"], batch["times"], keys)
  draw = jax.jit(lambda *inputs: flow.sample(*inputs, number))
  run = draw.lower(*inputs).compile()
  run(*inputs).block_until_ready()
  measure = turns.timed(lambda: run(*inputs).block_until_ready())
  return [measure() for _ in range(repeats)], run.memory_analysis()


def line(name: str, seconds: list[float], flops: float, rates, memory):
  """Prints one line; rates are the measured one, and the peak or None."""
  median = statistics.median(seconds)
  gigabytes = sum(
    (
      memory.argument_size_in_bytes,
      memory.output_size_in_bytes,
      memory.temp_size_in_bytes,
      -memory.alias_size_in_bytes,
    )
  )
  measured, peak = (rate and 100 * flops / median / rate for rate in rates)
  of_peak = f", {peak:.3g} % of the peak" if peak else ""
  print(
    f"{name}: {1e3 * median:.1f} ms, {flops / 1e12:.4g} TFLOP,"
    f" {flops / median / 1e12:.4g} TFLOP/s, utilization"
    f" {measured:.3g} %{of_peak}, memory {gigabytes / 2**30:.3g} GiB",
    flush=True,
  )


def main(arguments: list[str] | None = None) -> None:
  """Measures both."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--preset", choices=PRESETS, default="base")
  parser.add_argument("--batch", type=int, help="instead of the preset's")
  parser.add_argument("--head-width", type=int, help="instead of the preset's")
  parser.add_argument("--attention", default="full")
  parser.add_argument("--noise-multiplicity", type=int, default=1)
  parser.add_argument("--chunk", type=int, default=5)
  parser.add_argument("--samples", type=int, default=10)
  parser.add_argument("--sample-batch", type=int, default=4)
  parser.add_argument("--repeats", type=int, default=10)
  options = parser.parse_args(arguments)
  preset = PRESETS[options.preset]
  if options.batch:
    preset = dataclasses.replace(preset, batch=options.batch)
  flow, config = make_flow(preset, options)
  dtype = flow.network.config.compute_dtype
  device = jax.devices()[0].device_kind
  peak = peak_rate(device, dtype)
  rates = matmul_rate(preset.matmul, dtype), peak
  known = f"{peak / 1e12:.4g} TFLOP/s at peak" if peak else "peak unknown"
  parameters = count.count_parameters(flow.network.config, preset.spec.channels)
  print(
    f"{device}, {dtype}: {rates[0] / 1e12:.4g} TFLOP/s in one matrix product,"
    f" {known}; {options.preset}, {parameters / 1e6:.4g} M parameters, batch"
    f" {preset.batch}",
    flush=True,
  )
  flops = count.count_flops(flow.network.config, preset.spec)
  seconds, memory = train(flow, config, preset, options.repeats)
  per_example = flops.context + options.noise_multiplicity * flops.call
  step_flops = 3 * preset.batch * per_example
  line("training step", seconds, step_flops, rates, memory)
  seconds, memory = sample(
    flow, preset, options.sample_batch, options.samples, options.repeats
  )
  # Whole chunks are drawn, also the part of the last one that is left over.
  drawn = -(-options.samples // options.chunk) * options.chunk
  draws_flops = options.sample_batch * (
    flops.context + drawn * flow.calls * flops.call
  )
  name = f"{options.samples} futures of {options.sample_batch} examples"
  line(name, seconds, draws_flops, rates, memory)
  if used := (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"):
    print(f"peak of the device's memory: {used / 2**30:.3g} GiB")


if __name__ == "__main__":
  main()
