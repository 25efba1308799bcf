"""Placement of arrays, and agreement of four devices with one."""

import subprocess
import sys
from pathlib import Path

import fast_compile
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from forecasting.training.mesh import array_spec, make_mesh, shard_batch


@pytest.mark.parametrize(
  ("shape", "fsdp", "spec"),
  [
    ((255, 256), 2, P()),  # too small
    ((256, 512), 1, P()),  # nothing to split over
    ((256, 512), 2, P(None, "fsdp")),  # the largest
    ((1024, 512), 2, P("fsdp", None)),
    ((512, 512), 2, P(None, "fsdp")),  # the last of equals
    ((1025, 512), 2, P(None, "fsdp")),  # the largest that divides
    ((257, 1025), 2, P()),  # none divides
    ((), 2, P()),
  ],
)
def test_largest_divisible_dimension_is_split(shape, fsdp, spec):
  assert array_spec(shape, fsdp) == spec


def test_mesh_refuses_what_does_not_divide():
  with pytest.raises(ValueError, match=r"train\.fsdp=3.*divisor"):
    make_mesh(fsdp=3)


def test_batch_keeps_values_and_types():
  batch = {
    "video": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "mask": np.array([True, False]),
  }
  placed = shard_batch(batch, make_mesh())
  for name, value in batch.items():
    assert placed[name].dtype == value.dtype
    np.testing.assert_array_equal(placed[name], value)


@pytest.mark.parametrize("section", ["agree", "reshard", "uneven"])
def test_four_devices(section, four_devices):
  assert f"{section}: ok" in four_devices.stdout, four_devices.stderr[-3000:]


@pytest.fixture(scope="module")
def four_devices(tmp_path_factory):
  """Runs `four_devices.py` in a process that sees four devices."""
  script = Path(__file__).parent / "four_devices.py"
  return subprocess.run(
    [sys.executable, script, tmp_path_factory.mktemp("run")],
    env=fast_compile.environment(4),
    cwd=Path(__file__).parents[2],
    capture_output=True,
    text=True,
    timeout=300,
  )
