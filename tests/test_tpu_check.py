"""Compiling for slices of TPUs: what is counted, and that the models fit."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "launch"))

import tpu_check  # noqa: E402


def _flops(function, *shapes):
  args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return tpu_check.matmul_flops(jax.make_jaxpr(function)(*args).jaxpr)


def test_flops_of_products_convolutions_and_loops():
  assert _flops(jnp.matmul, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
  batched = "bqd,bkd->bqk"
  attention = lambda x, y: jnp.einsum(batched, x, y)  # noqa: E731
  assert _flops(attention, (2, 3, 5), (2, 7, 5)) == 2 * 2 * 3 * 5 * 7

  def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  # 4 x 4 places, 2 x 2 x 3 inputs to 6 outputs each.
  found = _flops(convolve, (1, 8, 8, 3), (2, 2, 3, 6))
  assert found == 2 * 16 * 12 * 6

  def loop(x, y):
    step = jax.checkpoint(lambda x: jnp.tanh(x @ y))
    return jax.lax.scan(lambda x, _: (jax.jit(step)(x), None), x, length=4)[0]

  assert _flops(loop, (3, 5), (5, 5)) == 4 * 2 * 3 * 5 * 5


def test_gathered_activations_are_told_from_parameters():
  state = {"kernel": jax.ShapeDtypeStruct((1024, 512), jnp.float32)}
  text = """
  %a = f32[1024,512]{1,0:T(8,128)} all-gather(%p), dimensions={0}
  %b = bf16[32,1568,64]{2,1,0} all-gather(%q), dimensions={0}
  %c = (f32[2,8]{1,0}, f32[64,32768]{1,0}) all-gather-start(%r)
  %d = f32[16]{0} all-gather(%s), dimensions={0}
  %e = f32[4096,4096]{1,0} all-reduce(%t), to_apply=%add
  """
  found = tpu_check.gathered_activations(text, state)
  assert found == ["[32,1568,64]", "[64,32768]"]
  assert len(tpu_check.gathered_activations(text, None)) == 3


def test_lines_of_compilers_are_caught_and_passed_on(capfd):
  with tpu_check.captured_stderr() as lines:
    os.write(2, b"[SPMD] Involuntary full rematerialization. x\nother\n")
  assert len(lines) == 2 and tpu_check._WARNING.search(lines[0])
  assert not tpu_check._WARNING.search(lines[1])
  assert "other" in capfd.readouterr().err


def test_topologies_are_named_by_chip_and_shape():
  for name in ("v5e", "h100:8", ""):
    with pytest.raises(ValueError, match="v5e:4x4"):
      tpu_check.get_devices(name)
  assert tpu_check.get_devices("cpu:1") == jax.devices("cpu")[:1]


def _check(tmp_path, config, topology, *flags, devices=1):
  """Runs the program; returns its exit code, output and figures."""
  path = tmp_path / "figures.json"
  count = f"--xla_force_host_platform_device_count={devices}"
  done = subprocess.run(
    [
      *(sys.executable, "launch/tpu_check.py", f"--config=configs/{config}"),
      *(f"--topology={topology}", f"--json={path}", *flags),
    ],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": count},
    capture_output=True,
    text=True,
    check=False,
  )
  assert path.exists(), done.stderr[-3000:]
  return done.returncode, done.stdout, json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("compress", ["none", "pca(8)", "vae(8)"])
def test_program_on_cpu_devices(tmp_path, compress):
  code, output, figures = _check(
    tmp_path,
    "4ds_tiny_boxes.py:smoke",
    "cpu:2",
    "--only=regression|boxes|extract",
    f"--config.forecaster.compress={compress}",
    devices=2,
  )
  assert code == 0, output
  by_name = {figure["step"]: figure for figure in figures}
  assert by_name.keys() == {
    "train readout-boxes",
    "train forecaster-regression",
    "sample regression",
    "extract",
  }
  for figure in figures:
    assert figure["fits"] and figure["flops"] > 0
    assert figure["peak_bytes"] >= figure["argument_bytes"] > 0
    assert not figure["gathered"] and not figure["warnings"]
  train = by_name["train forecaster-regression"]
  # Parameters, their average, two moments: four copies, and the batch. The
  # other forecaster and the readout stay on the device meanwhile.
  params = by_name["sample regression"]["argument_bytes"]
  assert 3 * params < train["argument_bytes"]
  assert train["resident_bytes"] > 0


@pytest.mark.slow
def test_backbones_that_forecast_by_themselves_are_compiled(tmp_path):
  _, output, figures = _check(
    tmp_path, "n_walt_boxes.py:smoke", "cpu:1", "--only=sample"
  )
  assert [figure["step"] for figure in figures] == ["sample native"], output
  assert figures[0]["fits"] and figures[0]["flops"] > 0


TOPOLOGIES = [
  ("4ds_e_boxes.py", "v5e:4x4", ()),
  ("4ds_e_boxes.py", "v5p:2x2x2", ()),
  ("4ds_e_boxes.py", "v6e:4x4", ()),
  # The paper's batch of 4 has fewer clips than the slice has chips.
  ("siglip_depth.py", "v6e:4x4", ("--config.train.batch_size=16",)),
]


@pytest.mark.tpu_aot
@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="needs libtpu"
)
@pytest.mark.parametrize(
  ("config", "topology", "flags"),
  TOPOLOGIES,
  ids=[f"{config}-{topology}" for config, topology, _ in TOPOLOGIES],
)
def test_full_sizes_fit_a_slice(tmp_path, config, topology, flags):
  """Training, sampling and extraction; minutes each on 2 cores."""
  code, output, figures = _check(tmp_path, config, topology, *flags)
  print(output)
  assert code == 0, output
  kinds = [figure["step"].split()[0] for figure in figures]
  assert sorted(kinds) == ["extract", *2 * ["sample"], *3 * ["train"]]
  for figure in figures:
    assert figure["fits"] and not figure["error"]
    assert not figure["warnings"], "full rematerialization"
    # Extraction gathers weights, slices of them too.
    if figure["step"] != "extract":
      assert not figure["gathered"], "activations are gathered"
    assert np.isfinite(figure["step_seconds"]) and figure["step_seconds"] > 0
