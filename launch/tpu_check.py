r"""Compiles the steps of a run for a TPU slice, on a machine without TPUs.

python launch/tpu_check.py --config=configs/4ds_e_boxes.py --topology=v5e:4x4

Compiles the train step of every trainee, the sampling of every forecaster and
the extraction of latents, and prints what each chip needs beside the memory it
has. Shapes only: no weights, no data, no device. Needs libtpu, which is part
of the [tpu] extra. The exit code is 1 if anything does not fit.

`--topology=cpu:N` compiles for N of this machine's CPU devices instead, to try
the program itself.
"""

import dataclasses
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import jax
from absl import app, flags
from abstract_steps import Step, all_steps
from jax.experimental import topologies
from ml_collections import ConfigDict, config_flags

from forecasting.training.mesh import MIN_SPLIT_SIZE

GIB = 2**30
# Memory of a chip, and its bfloat16 operations per second. Source: Google
# Cloud's TPU documentation. A CPU stands for a chip that fits everything.
CHIPS = {
  "v4": (32 * GIB, 275e12),
  "v5e": (16 * GIB, 197e12),
  "v5p": (95 * GIB, 459e12),
  "v6e": (32 * GIB, 918e12),
  "cpu": (math.inf, math.nan),
}
_ALL_GATHER = re.compile(r" = (.*?) all-gather(?:-start)?\(")
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")
_WARNING = re.compile(r"full rematerialization", re.IGNORECASE)


@dataclasses.dataclass
class Check:
  """What one compiled step needs, per chip unless said otherwise.

  Attributes:
    step: which.
    flops: of its matrix products in the model, over all chips; a train step
      counts three times the forward pass.
    argument_bytes: parameters, optimizer state, batch.
    temporary_bytes: activations and other intermediate values.
    peak_bytes: both, outputs that are not written over arguments, the program.
    resident_bytes: states of the other trainees, which stay on the chip.
    compile_seconds: on this machine.
    step_seconds: at the utilization asked for.
    gathered: shapes of large activations that are gathered from all chips.
    warnings: of the compiler, about full rematerialization.
    error: why it could not be compiled; empty if it was.
    fits: into the chip's memory.
  """

  step: str
  flops: float = 0
  argument_bytes: int = 0
  temporary_bytes: int = 0
  peak_bytes: int = 0
  resident_bytes: int = 0
  compile_seconds: float = 0.0
  step_seconds: float = math.nan
  gathered: Sequence[str] = ()
  warnings: Sequence[str] = ()
  error: str = ""
  fits: bool = False


def get_devices(topology: str) -> list[Any]:
  """Returns the devices of a slice such as 'v5e:4x4', none of them here.

  Raises:
    ValueError: an unknown kind of chip, or libtpu is not installed.
  """
  kind, _, shape = topology.partition(":")
  if kind not in CHIPS or not shape:
    raise ValueError(
      f"--topology={topology}: expected CHIP:SHAPE as in v5e:4x4, with a chip "
      f"of {', '.join(CHIPS)}"
    )
  if kind == "cpu":
    return jax.devices("cpu")[: int(shape)]
  # Without these libtpu asks Google's metadata server, minutes long.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "1")
  # Nothing is run here, so that others may compile at the same time.
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  try:
    return list(topologies.get_topology_desc(topology, "tpu").devices)
  except Exception as error:
    raise ValueError(
      f"--topology={topology}: {error}. This needs libtpu: pip install "
      "'forecasting[tpu]', or without jax's own choice of version: libtpu"
    ) from error


@contextmanager
def traced_as_on(platform: str) -> Iterator[None]:
  """Lets our code choose types and chunks as it does on a platform."""
  with mock.patch.object(jax, "default_backend", lambda: platform):
    yield


def matmul_flops(jaxpr: Any) -> int:
  """Returns operations of all matrix products and convolutions of a jaxpr.

  Loops of unknown length count once.
  """
  total = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
      (contracted, _), _ = params["dimension_numbers"]
      left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
      total += 2 * math.prod(out) * math.prod(left[i] for i in contracted)
    elif name == "conv_general_dilated":
      kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval
      features = kernel[params["dimension_numbers"].rhs_spec[0]]
      total += 2 * math.prod(out.shape) * math.prod(kernel) // features
    else:
      repeats = params["length"] if name == "scan" else 1
      total += repeats * sum(map(matmul_flops, _inner_jaxprs(params)))
  return total


def _inner_jaxprs(params: Mapping[str, Any]) -> Iterator[Any]:
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      item = getattr(item, "jaxpr", item)
      if hasattr(item, "eqns"):
        yield item


def gathered_activations(text: str, params: Any) -> list[str]:
  """Returns shapes that are gathered from all chips and are no parameters.

  Args:
    text: of the compiled program.
    params: state of the trainee, or weights of the backbone; these arrays may
      be gathered where they are used.
  """
  own = {_shape(x.shape) for x in jax.tree.leaves(params)}
  found = []
  for result in _ALL_GATHER.findall(text):
    for dims in _SHAPE.findall(result):
      shape = _shape(int(n) for n in dims.split(",") if n)
      if math.prod(shape) >= MIN_SPLIT_SIZE and shape not in own:
        found.append(f"[{dims}]")
  return found


def _shape(shape: Any) -> tuple[int, ...]:
  """Returns a shape up to the order of its axes, which compilers change."""
  return tuple(sorted(n for n in shape if n > 1))


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
  """Collects lines that compilers write, and passes them on afterwards."""
  lines: list[str] = []
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile("w+", errors="replace") as file:
    os.dup2(file.fileno(), 2)
    try:
      yield lines
    finally:
      os.dup2(kept, 2)
      os.close(kept)
      file.seek(0)
      lines += file.read().splitlines()
      for line in lines:
        print(line, file=sys.stderr)


def bytes_per_chip(state: Any) -> int:
  """Returns what a sharded tree takes on each chip."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(state)
  )


def check(step: Step, kind: str, mfu: float, resident_bytes: int) -> Check:
  """Compiles one step.

  Args:
    step: what.
    kind: of chip.
    mfu: model FLOPs utilization for which the time is given.
    resident_bytes: taken on each chip by what the step does not use.
  """
  memory, flops_per_second = CHIPS[kind]
  result = Check(step.name, resident_bytes=resident_bytes)
  forward = jax.make_jaxpr(step.forward)(*step.args)
  result.flops = float(step.times * matmul_flops(forward.jaxpr))
  result.step_seconds = result.flops / (step.chips * flops_per_second * mfu)
  start = time.monotonic()
  with captured_stderr() as lines:
    try:
      compiled = step.jitted.lower(*step.args).compile()
    except jax.errors.JaxRuntimeError as error:
      # The compiler refuses what does not fit, and says by how much.
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      result.error = str(error).splitlines()[0]
  result.compile_seconds = time.monotonic() - start
  result.warnings = [line for line in lines if _WARNING.search(line)]
  if result.error:
    return result
  sizes = compiled.memory_analysis()
  result.argument_bytes = sizes.argument_size_in_bytes
  result.temporary_bytes = sizes.temp_size_in_bytes
  result.peak_bytes = (
    result.argument_bytes
    + result.temporary_bytes
    + sizes.output_size_in_bytes
    - sizes.alias_size_in_bytes
    + sizes.generated_code_size_in_bytes
  )
  result.gathered = gathered_activations(compiled.as_text(), step.args[0])
  result.fits = result.peak_bytes + resident_bytes <= memory
  return result


def check_all(
  config: ConfigDict, topology: str, mfu: float, only: str = ""
) -> Iterator[Check]:
  """Compiles the steps of a run one after the other.

  Args:
    config: of the run.
    topology: of the slice, as in 'v5e:4x4'.
    mfu: model FLOPs utilization for which step times are given.
    only: pattern that the names of steps must contain.

  Yields:
    What each needs.

  Raises:
    ValueError: no such topology, or a batch that it cannot share.
  """
  kind = topology.partition(":")[0]
  devices = get_devices(topology)
  with traced_as_on("cpu" if kind == "cpu" else "tpu"):
    steps = all_steps(config, devices)
    # All trainees are on the chips at once, though one steps at a time.
    states = sum(bytes_per_chip(step.state) for step in steps)
    for step in steps:
      if re.search(only, step.name):
        training = step.state is not None
        others = states - bytes_per_chip(step.state) if training else 0
        yield check(step, kind, mfu, others)


def describe(result: Check, kind: str) -> str:
  """Returns a line of text about a step."""
  name = f"{result.step:28}"
  if result.error:
    return f"{name} DOES NOT FIT: {result.error}"
  sizes = {
    "arguments": result.argument_bytes,
    "temporary": result.temporary_bytes,
    "peak": result.peak_bytes,
    "others": result.resident_bytes,
    "HBM": CHIPS[kind][0],
  }
  parts = [f"{word} {size / GIB:.2f}" for word, size in sizes.items()]
  parts[-1] += " GiB" + ("" if result.fits else " DOES NOT FIT")
  parts += [
    f"{result.flops / 1e12:.3g} TFLOP",
    f"{1e3 * result.step_seconds:.3g} ms",
    f"compiled in {result.compile_seconds:.0f} s",
  ]
  if result.gathered:
    parts.append(f"GATHERS {', '.join(sorted(set(result.gathered)))}")
  if result.warnings:
    parts.append(f"{len(result.warnings)} REMATERIALIZATION WARNINGS")
  return f"{name} {', '.join(parts)}"


def main(argv: Sequence[str]) -> int:
  """Parses flags, compiles, prints."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  # The program runs on a CPU whatever it compiles for.
  jax.config.update("jax_platforms", "cpu")
  topology, mfu = _TOPOLOGY.value, _MFU.value
  print(f"{_CONFIG.value.name} on {topology}, times at {mfu:.0%} MFU")
  results = []
  for result in check_all(_CONFIG.value, topology, mfu, _ONLY.value):
    print(describe(result, topology.partition(":")[0]), flush=True)
    results.append(dataclasses.asdict(result))
  if _JSON.value:
    Path(_JSON.value).write_text(json.dumps(results, indent=1) + "\n")
  return 0 if all(result["fits"] for result in results) else 1


if __name__ == "__main__":
  _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
  _TOPOLOGY = flags.DEFINE_string("topology", "v5e:4x4", "Slice of TPUs.")
  _MFU = flags.DEFINE_float("mfu", 0.4, "Utilization for step times.")
  _ONLY = flags.DEFINE_string("only", "", "Pattern of the steps to compile.")
  _JSON = flags.DEFINE_string("json", None, "File for the figures.")
  flags.mark_flag_as_required("config")
  app.run(main)
