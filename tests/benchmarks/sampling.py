"""Ten futures of an example: ours against the naive way to draw them.

python tests/benchmarks/sampling.py [--width 256 --depth 4 --heads 4 --grid 8]
python tests/benchmarks/sampling.py --workdir=runs/quickstart [--clips 32]

Ours encodes the context once per example, hands its keys and values to all
samples and calls, and makes 16 calls of DPM-Solver++ 2M, or with --workdir
samples as the run does. The naive way runs context and target through the same
network in each of 50 Euler steps of each sample. Both have the same parameters,
chunks and threads and take turns. Prints seconds, network tokens evaluated and
their ratios; with --workdir also fair energy scores of both on held-out clips,
lower being better, of the latents and of what the run's readouts make of them.
Both ratios are to be at least 4 at no worse a score.
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path

import einops
import jax
import jax.numpy as jnp
import numpy as np
import turns
from ml_collections import ConfigDict

from forecasting import config as defaults
from forecasting import experiment
from forecasting.forecaster import diffusion, registry, sampler
from forecasting.forecaster.base import LatentSpec
from forecasting.forecaster.diffusion import DiffusionForecaster
from forecasting.latents import pipeline
from forecasting.metrics import proper
from forecasting.samples import decode, draw
from forecasting.tasks import TASKS
from forecasting.trainees import forecaster_name
from forecasting.training import checkpoint

NAIVE_CALLS = 50
_decode = jax.jit(decode.decode, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class Naive:
  """Draws from the network of `flow` without sharing anything."""

  flow: DiffusionForecaster
  name: str = "naive"
  trainable: bool = True
  calls: int = NAIVE_CALLS

  def sample(self, params, context, times, keys, num_samples):
    """Draws futures; as `Forecaster.sample`."""
    flow, spec = self.flow, self.flow.spec
    table = sampler.make_table(
      "euler", sampler.make_grid("uniform", NAIVE_CALLS)
    )
    shape = (spec.tf, spec.h, spec.w, spec.channels)

    def one_example(context, times, keys):
      past = flow.transform.context(context)

      def draw_chunk(keys):
        size = keys.shape[1]
        pasts, seconds = (jnp.repeat(x, size, axis=0) for x in (past, times))

        def x0_hat(z, t):
          # A sample is an example of its own: its context is encoded again.
          alone = einops.rearrange(z, "1 S ... -> S 1 ...")
          cache = flow.encode_context(params, pasts, seconds)
          out = flow.x0_hat(params, cache, alone, t, seconds)
          return einops.rearrange(out, "S 1 ... -> 1 S ...")

        return sampler.draw(x0_hat, table, keys, shape)

      drawn = diffusion.in_chunks(draw_chunk, keys, num_samples, flow.chunk)
      return flow.transform.invert_future(drawn, context)

    return jax.lax.map(
      lambda row: one_example(*(x[None] for x in row))[0],
      (context, times, keys),
    )


def token_evaluations(
  spec: LatentSpec, patch: int, calls: int, samples: int
) -> tuple[int, int]:
  """Returns tokens that pass the network for one example: ours and naive."""
  tokens = spec.h * spec.w // patch**2
  ours = spec.tc + samples * calls * spec.tf
  naive = samples * NAIVE_CALLS * (spec.tc + spec.tf)
  return ours * tokens, naive * tokens


def synthetic(options: argparse.Namespace):
  """Returns a random forecaster, its parameters and random batches."""
  config = defaults.forecaster_config()
  config.model.update(
    width=options.width,
    depth=options.depth,
    heads=options.heads,
    patch=options.patch,
  )
  spec = LatentSpec(2, 6, options.grid, options.grid, options.channels)
  flow = registry.make_forecaster("flow", config, spec, None)
  rng = np.random.default_rng(0)
  shape = (options.batch, spec.tc, spec.h, spec.w, spec.channels)
  inputs = {
    "context": rng.standard_normal(shape, np.float32),
    "times": np.tile(np.float32(0.08) * np.arange(8), (options.batch, 1)),
  }
  return flow, flow.init(jax.random.key(0)), inputs


def of_run(workdir: Path) -> experiment.Experiment:
  """Returns a finished run.

  Raises:
    FileNotFoundError: the folder holds no run.
  """
  path = workdir / "config.json"
  if not path.exists():
    raise FileNotFoundError(
      f"{path}: --workdir has to be a folder in which forecasting.main ran"
    )
  config = defaults.base_config()
  stored = ConfigDict(json.loads(path.read_text()))
  for name in ("tasks", "forecasters", "baselines"):
    stored[name] = tuple(stored[name])
  with config.ignore_type():
    config.update(stored)
  config.latents.extract_if_missing = False
  return experiment.open_experiment(config, workdir)


def scores(run_, readouts, batches, futures) -> dict[str, np.ndarray]:
  """Returns energy scores of latents per clip and of tasks per row."""
  parts: dict[str, list[np.ndarray]] = {"latents": []}
  for batch, drawn in zip(batches, futures):
    kept = batch["mask"]
    truth = batch["clip"][:, run_.spec.tc :]
    parts["latents"].append(
      proper.energy_score(
        einops.rearrange(np.asarray(drawn), "B S ... -> B S (...)"),
        einops.rearrange(truth, "B ... -> B (...)"),
      )[kept]
    )
    for task, readout in readouts.items():
      output = jax.device_get(
        _decode(
          readout.head,
          readout.params,
          jnp.asarray(batch["context"]),
          jnp.asarray(drawn),
          readout.select(batch),
        )
      )
      rows = TASKS[task].vectors(output, batch, run_.config.data.num_context)
      parts.setdefault(task, []).append(
        proper.energy_score(rows.pred, rows.truth)[kept[rows.example]]
      )
  return {name: np.concatenate(values) for name, values in parts.items()}


def compile_both(flow, params, inputs, samples: int):
  """Returns both ways as functions of a batch, compiled."""
  ways = {}
  for way in (flow, Naive(flow)):
    run = jax.jit(
      lambda params, context, times, keys, way=way: way.sample(
        params, context, times, keys, samples
      )
    )
    keys = jax.random.split(jax.random.key(0), len(inputs["context"]))
    compiled = run.lower(
      params, inputs["context"], inputs["times"], keys
    ).compile()
    ways[way.name] = lambda batch, keys, run=compiled: run(
      params, batch["context"], batch["times"], keys
    ).block_until_ready()
  return ways


def race(ways, inputs, repeats: int, clock: str) -> None:
  """Lets both take turns and prints what they took."""
  keys = jax.random.split(jax.random.key(1), len(inputs["context"]))
  runs = {
    name: turns.timed(lambda run=run: run(inputs, keys), clock)
    for name, run in ways.items()
  }
  for run in runs.values():
    run()
  seconds = turns.take_turns(runs, repeats)
  each = {name: statistics.median(s) for name, s in seconds.items()}
  size = len(inputs["context"])
  print(
    f"ours {1e3 * each['flow'] / size:.1f} ms an example, naive"
    f" {1e3 * each['naive'] / size:.1f} ms, naive / ours"
    f" {turns.ratio(seconds['naive'], seconds['flow'])}",
    flush=True,
  )


def compare_scores(run_, params, ways, options, first) -> None:
  """Prints energy scores of both ways on held-out clips."""
  readouts = run_.readouts(params)
  readouts = {t: r for t, r in readouts.items() if t in options.tasks}
  key = jax.random.key(run_.config.seed)
  futures = {name: [] for name in ways}
  for batch in first:
    keys = draw.example_keys(key, batch["example_id"])
    inputs = draw.forecaster_batch(batch, run_.spec.tc, run_.tubelet)
    for name, run in ways.items():
      futures[name].append(run(inputs, keys))
  ours, naive = (
    scores(run_, readouts, first, futures[name]) for name in ("flow", "naive")
  )
  for name in ours:
    difference = ours[name] - naive[name]
    error = difference.std(ddof=1) / len(difference) ** 0.5
    print(
      f"energy score of {name}: ours {ours[name].mean():.5g}, naive"
      f" {naive[name].mean():.5g}; ours - naive {difference.mean():.2g}"
      f" +- {error:.1g} over {len(difference)} rows"
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
  """Returns the sizes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--width", type=int, default=256)
  parser.add_argument("--depth", type=int, default=4)
  parser.add_argument("--heads", type=int, default=4)
  parser.add_argument("--grid", type=int, default=8, help="rows and columns")
  parser.add_argument("--patch", type=int, default=2)
  parser.add_argument("--channels", type=int, default=128)
  # One example alone would take as long as two (`diffusion.each_example`).
  parser.add_argument("--batch", type=int, default=2)
  parser.add_argument("--samples", type=int, default=10)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--clock", choices=turns.CLOCKS, default="wall")
  parser.add_argument("--workdir", type=Path, help="of a run with `flow`")
  parser.add_argument("--clips", type=int, default=32)
  parser.add_argument("--tasks", nargs="*", default=("points", "boxes"))
  return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
  """Compares both ways."""
  options = parse(arguments)
  if options.workdir:
    run_ = of_run(options.workdir)
    _, trained = checkpoint.restore_ema(options.workdir)
    params = trained[forecaster_name("flow")]
    flow = registry.make_forecaster(
      "flow", run_.config.forecaster, run_.spec, run_.stats
    )
    batches = pipeline.EvalBatches(
      run_.stores["eval"], options.batch, _tensors(options.tasks)
    )
    number = min(-(-options.clips // options.batch), len(batches))
    first = [batches[i] for i in range(number)]
    inputs = draw.forecaster_batch(first[0], run_.spec.tc, run_.tubelet)
  else:
    flow, params, inputs = synthetic(options)
  ours, naive = token_evaluations(
    flow.spec, flow.network.config.patch, flow.calls, options.samples
  )
  print(
    f"{options.samples} futures in {flow.calls} calls each: ours {ours}"
    f" token-evaluations an example, naive {naive}, ratio {naive / ours:.2f}"
  )
  ways = compile_both(flow, params, inputs, options.samples)
  race(ways, inputs, options.repeats, options.clock)
  if options.workdir:
    compare_scores(run_, trained, ways, options, first)


def _tensors(tasks) -> set[str]:
  labels = {label for task in tasks for label in TASKS[task].labels}
  return {"context", "clip", "seconds", "example_id"} | labels


if __name__ == "__main__":
  main()
