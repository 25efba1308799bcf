"""Tokens encoded in part keep their places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from forecasting.backbones.encode import build_network
from forecasting.backbones.rotary import frame_causal
from forecasting.pretraining.tokens import encode_visible


@pytest.mark.parametrize("name", ["videomae_tiny", "vjepa_tiny"])
def test_all_tokens_in_any_order_are_the_backbones(name, small_spec):
  spec = small_spec(name)
  network = build_network(spec)
  video = jax.random.uniform(jax.random.key(0), (1, 8, 16, 16, 3))
  order = jax.random.permutation(jax.random.key(1), 64)[None]

  @jax.jit
  def both(key):
    params = network.init(key, video, 1, method="latents")["params"]
    whole = network.apply({"params": params}, video, 1, method="latents")
    return whole, encode_visible(network, params, video, order)

  whole, part = both(jax.random.key(2))
  whole = rearrange(whole, "B t h w D -> B (t h w) D")
  np.testing.assert_allclose(part, whole[:, order[0]], atol=2e-5)


def test_first_slots_of_a_causal_network(small_spec):
  spec = small_spec("next_vid_tiny")
  network = build_network(spec)
  video = jax.random.uniform(jax.random.key(0), (1, 8, 16, 16, 3))
  first = np.arange(32)[None]

  @jax.jit
  def both(key):
    params = network.init(key, video, 1, method="latents")["params"]
    whole = network.apply({"params": params}, video, 1, method="latents")
    mask = frame_causal((2, 4, 4))
    return whole, encode_visible(network, params, video, first, mask)

  whole, part = both(jax.random.key(2))
  whole = rearrange(whole, "B t h w D -> B (t h w) D")
  np.testing.assert_allclose(part, whole[:, :32], atol=2e-5)


def test_other_families_are_refused(small_spec):
  spec = small_spec("siglip_tiny")
  video = jnp.zeros((1, 8, 16, 16, 3))
  network = build_network(spec)
  params = jax.eval_shape(
    lambda key: network.init(key, video, 1, method="latents"), jax.random.key(0)
  )["params"]
  params = jax.tree.map(lambda x: jnp.zeros(x.shape), params)
  index = jnp.zeros((1, 1), jnp.int32)
  with pytest.raises(TypeError, match="SigLip cannot encode a part"):
    encode_visible(network, params, video, index)
