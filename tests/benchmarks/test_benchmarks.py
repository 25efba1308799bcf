"""The benchmarks run, and compare what they say they compare."""

import argparse
import dataclasses
import re

import evaluation
import frechet
import jax
import memory
import mfu
import numpy as np
import pytest
import sampling
import turns

from forecasting.forecaster import count, sampler
from forecasting.forecaster.architecture import DenoiserConfig
from forecasting.forecaster.base import LatentSpec

TINY = argparse.Namespace(
  width=24, depth=1, heads=2, grid=2, patch=1, channels=4, batch=2
)


def test_metrics_equal_their_loops(capsys):
  small = ("--clips=2", "--samples=3", "--size=8", "--points=6", "--boxes=3")
  evaluation.main([*small, "--repeats=1"])
  assert "all: ratio" in capsys.readouterr().out


def test_a_wrong_metric_is_noticed(monkeypatch):
  monkeypatch.setattr(
    evaluation, "loop_tracks", lambda *x: evaluation.our_tracks(*x) + 1e-8
  )
  small = ("--clips=2", "--samples=3", "--size=8", "--points=6", "--boxes=3")
  with pytest.raises(AssertionError, match="Average Jaccard"):
    evaluation.main([*small, "--repeats=1"])


def test_frechet_distance_is_held_to_the_square_root(capsys, monkeypatch):
  frechet.main(["--rows", "10", "60", "--dims", "24"])
  assert len(capsys.readouterr().out.splitlines()) == 2
  exact = frechet.frechet_distance
  monkeypatch.setattr(
    frechet, "frechet_distance", lambda *x: exact(*x) * (1 + 1e-5)
  )
  with pytest.raises(ValueError, match="60 rows of 24"):
    frechet.main(["--rows", "60", "--dims", "24"])


@pytest.mark.slow
def test_naive_sampling_draws_what_shared_context_draws():
  """The naive way differs in cost alone: same steps, same futures."""
  flow, params, inputs = sampling.synthetic(TINY)
  rng = np.random.default_rng(0)
  # Fresh networks predict zero.
  params = jax.tree.map(
    lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), params
  )
  grid = sampler.make_grid("uniform", sampling.NAIVE_CALLS)
  euler = dataclasses.replace(flow, table=sampler.make_table("euler", grid))
  keys = jax.random.split(jax.random.key(0), 2)
  ours, naive = (
    jax.jit(
      lambda params, context, times, keys, way=way: way.sample(
        params, context, times, keys, 3
      )
    )(params, inputs["context"], inputs["times"], keys)
    for way in (euler, sampling.Naive(flow))
  )
  assert np.std(ours) > 0.1
  np.testing.assert_allclose(ours, naive, atol=2e-4)


def test_token_evaluations_by_hand():
  spec = LatentSpec(tc=2, tf=6, h=2, w=2, channels=4)
  ours, naive = sampling.token_evaluations(spec, 1, 16, 10)
  assert ours == 4 * (2 + 10 * 16 * 6)
  assert naive == 4 * 10 * 50 * (2 + 6)
  assert naive >= 4 * ours


@pytest.mark.slow
def test_chunks_bound_memory():
  sizes = {
    (number, chunk): memory.measure(TINY, number, chunk)["temp"]
    for number, chunk in ((4, 4), (16, 4), (16, 16))
  }
  assert sizes[16, 16] > 2 * sizes[16, 4]
  assert sizes[16, 4] < 2 * sizes[4, 4]


@pytest.mark.slow
def test_utilization_of_a_tiny_network(capsys):
  mfu.main(["--preset=tiny", "--repeats=1", "--samples=2", "--chunk=2"])
  lines = capsys.readouterr().out.splitlines()
  for line, name in zip(lines[1:], ("training step", "2 futures")):
    assert line.startswith(name)
    share = float(re.search(r"utilization (\S+) %", line)[1])
    assert 0 < share < 100


def test_presets_are_of_the_documented_size():
  """Source: forecaster.md 7.4; millions of parameters, TFLOP of one call."""
  sizes = {"small": (26, None), "base": (350, 0.94), "large": (830, 2.2)}
  for name, (millions, call) in sizes.items():
    preset = mfu.PRESETS[name]
    model = DenoiserConfig(**preset.model)
    parameters = count.count_parameters(model, preset.spec.channels)
    assert parameters / 1e6 == pytest.approx(millions, rel=0.03)
    if call:
      flops = count.count_flops(model, preset.spec)
      assert flops.call / 1e12 == pytest.approx(call, rel=0.03)


def test_peak_is_that_of_the_device_named():
  assert mfu.peak_rate("NVIDIA H100 PCIe", np.dtype("bfloat16")) == 756e12
  assert mfu.peak_rate("NVIDIA H100 80GB HBM3", np.dtype("bfloat16")) == 989e12
  assert mfu.peak_rate("TPU v5 lite", np.dtype("bfloat16")) == 197e12
  assert mfu.peak_rate("NVIDIA H200", np.dtype("float32")) is None
  assert mfu.peak_rate("cpu", np.dtype("bfloat16")) is None


def test_turns_alternate_who_begins():
  calls = []

  def run(name):
    calls.append(name)
    return float(len(calls))

  seconds = turns.take_turns(
    {name: lambda name=name: run(name) for name in "ab"}, 2
  )
  assert "".join(calls) == "abba"
  assert seconds == {"a": [1.0, 4.0], "b": [2.0, 3.0]}
  assert turns.ratio([2.0, 3.0], [1.0, 1.0]) == "2.50 (2.00 to 3.00)"


@pytest.mark.parity
def test_flops_of_the_peer_are_those_torch_counts():
  torch = pytest.importorskip("torch")
  import dit
  from torch.utils.flop_counter import FlopCounterMode

  model = dit.Transformer(24, 2, 2, 5, 12)
  with FlopCounterMode(display=False) as counter:
    out = model(torch.randn(3, 4, 5), torch.randn(3, 8, 5), torch.rand(3))
  assert out.shape == (3, 8, 5)
  assert counter.get_total_flops() == 3 * dit.count_flops(24, 2, 5, 4, 8)
