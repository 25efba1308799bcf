"""A backbone with random weights, made once."""

import jax
import jax.numpy as jnp
import pytest

from forecasting.backbones import encode


@pytest.fixture(scope="session")
def tiny():
  """4ds_tiny with random weights in which nothing is zero or one."""
  backbone = encode.load_backbone("4ds_tiny", random_init=True)
  leaves, tree = jax.tree.flatten(backbone.params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  leaves = [
    x + 0.1 * jax.random.normal(key, jnp.shape(x))
    for key, x in zip(keys, leaves, strict=True)
  ]
  params = jax.tree.unflatten(tree, leaves)
  return encode.Backbone(
    backbone.spec, params, "test", backbone.num_blocks, "crop_pos"
  )
