"""A small backbone with random weights, made once."""

import jax
import numpy as np
import pytest

from forecasting.backbones import encode
from forecasting.backbones.spec import BackboneSpec


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
