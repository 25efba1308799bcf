"""A small backbone with random weights, made once, and the goldens."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from forecasting.backbones import encode
from forecasting.backbones.spec import BackboneSpec

ROOT = Path(__file__).parents[2]
GOLDENS = Path(
  os.environ.get(
    "FORECASTING_GOLDENS", ROOT.parent / "shared" / "reference" / "goldens"
  )
)


class Goldens:
  """The stored cases of reference implementations.

  Attributes:
    folder: of the cases.
    check: the module that compares with them.
  """

  def __init__(self, folder, check, scratch):
    self.folder, self.check, self._scratch = folder, check, scratch

  def spec(self, name):
    return self.check.golden_spec(self.folder, name)

  def weights(self, name):
    paths = (self.folder / f"{name}{x}" for x in self.check.WEIGHTS)
    return next(path for path in paths if path.is_file())

  def error(self, name, spec=None, weights=None):
    """Returns the largest error relative to the spread of the latents."""
    return self.check.errors(
      self.folder,
      name,
      spec or self.spec(name),
      weights or self.weights(name),
    )[1]

  def loads_the_same(self, name, weights):
    """Returns whether a file fills the parameters as the golden's does."""
    spec = self.spec(name)
    ours, theirs = (
      encode.load_spec(spec, checkpoint=path).params
      for path in (weights, self.weights(name))
    )
    same = jax.tree.map(np.array_equal, ours, theirs)
    return jax.tree.all(same)

  def rewritten(self, name, change):
    """Returns a file with the weights after `change(dict of arrays)`."""
    old = self.weights(name)
    path = self._scratch / old.name
    if old.suffix == ".npz":
      with np.load(old) as arrays:
        np.savez(path, **change(dict(arrays)))
    else:
      arrays = change(load_file(old))
      # A transposed view would be written as it lies in memory.
      save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)
    return path


@pytest.fixture(scope="session")
def random_backbone():
  """Returns spec -> backbone with random weights, none of them zero or one.

  Drawn here, since compiling a network's own initializers takes longer than
  all the rest of a test.
  """

  def make(spec):
    rng = np.random.default_rng(0)
    params = jax.tree.map(
      lambda x: np.float32(0.2) * rng.standard_normal(x.shape, np.float32),
      encode.parameter_shapes(spec),
    )
    return encode.Backbone(
      spec, params, "test", encode.num_blocks(spec, "default"), "crop_pos"
    )

  return make


@pytest.fixture
def goldens(monkeypatch, tmp_path):
  """Reference outputs, or the test is skipped where there are none."""
  folder = GOLDENS / "backbones"
  if not folder.is_dir():
    pytest.skip(f"no goldens in {folder}; set FORECASTING_GOLDENS")
  monkeypatch.syspath_prepend(ROOT / "tests" / "parity")
  import check_backbones

  return Goldens(folder, check_backbones, tmp_path)


@pytest.fixture(scope="session")
def toy():
  """A 4DS of 32 tokens in whose weights nothing is zero or one."""
  spec = BackboneSpec(
    name="toy",
    family="4ds",
    resolution=16,
    num_frames=16,
    tubelet=2,
    patch=8,
    width=24,
    depth=3,
    heads=2,
    mlp_dim=40,
  )
  backbone = encode.load_spec(spec, random_init=True, layer="final")
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda x: x + np.float32(0.1) * rng.standard_normal(x.shape, np.float32),
    jax.device_get(backbone.params),
  )
  return encode.Backbone(spec, params, "test", backbone.num_blocks, "crop_pos")
