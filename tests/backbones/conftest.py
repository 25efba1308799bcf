"""A small backbone with random weights, made once."""

import jax
import jax.numpy as jnp
import pytest

from forecasting.backbones import encode
from forecasting.backbones.zoo import BackboneSpec


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
  leaves, tree = jax.tree.flatten(backbone.params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  leaves = [
    x + 0.1 * jax.random.normal(key, jnp.shape(x))
    for key, x in zip(keys, leaves, strict=True)
  ]
  params = jax.tree.unflatten(tree, leaves)
  return encode.Backbone(spec, params, "test", backbone.num_blocks, "crop_pos")
