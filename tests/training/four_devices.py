"""Run by test_mesh in a process with four devices; prints what holds."""

import sys
from pathlib import Path

import jax
import numpy as np
import toy_run
from jax.sharding import AxisType, Mesh, PartitionSpec

from forecasting.training.mesh import AXES, make_mesh, shard_batch


def main(workdir):
  """Trains on meshes of three shapes and compares."""
  one = Mesh(
    np.array(jax.devices()[:1]).reshape(1, 1),
    AXES,
    axis_types=(AxisType.Auto,) * 2,
  )
  meshes = {"1x1": one, "4x1": make_mesh(), "2x2": make_mesh(fsdp=2)}
  assert meshes["4x1"].devices.shape == (4, 1)
  assert meshes["2x2"].devices.shape == (2, 2)
  results = {}
  for name, mesh in meshes.items():
    trainees = [toy_run.trainee(steps=5)]
    state = toy_run.run(workdir / name, trainees, mesh=mesh)["toy"]
    kernel = state.params["dense"]["kernel"]
    split = PartitionSpec(None, "fsdp") if name == "2x2" else PartitionSpec()
    assert kernel.sharding.spec == split, kernel.sharding
    moment = state.opt_state[1].mu["dense"]["kernel"]
    assert moment.sharding.spec == split, moment.sharding
    assert len(kernel.addressable_shards) == mesh.size
    results[name] = jax.device_get((state.params, state.ema))
  for name in ("4x1", "2x2"):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5),
      results["1x1"],
      results[name],
    )
  print("agree: ok")

  # A checkpoint of one mesh continues on another.
  trainees = [toy_run.trainee(steps=5)]
  state = toy_run.run(workdir / "4x1", trainees, mesh=meshes["2x2"])["toy"]
  assert state.params["dense"]["kernel"].sharding.spec[1] == "fsdp"
  jax.tree.map(
    np.testing.assert_array_equal,
    jax.device_get((state.params, state.ema)),
    results["4x1"],
  )
  print("reshard: ok")

  try:
    shard_batch({"x": np.zeros((6, 2))}, meshes["4x1"])
  except ValueError as error:
    assert "4 local devices" in str(error) and "train.batch_size" in str(error)
    print("uneven: ok")


if __name__ == "__main__":
  main(Path(sys.argv[1]))
