"""Pixels survive the normalization of latents."""

import jax
import numpy as np

from forecasting.backbones.encode import load_backbone


def test_pixels_can_be_read_from_normalized_latents():
  backbone = load_backbone("raw_tiny", random_init=True)
  video = np.random.default_rng(0).random((1, 2, 64, 64, 3)).astype(np.float32)
  video[:, :, :32] *= 0.1  # dark and flat
  latents = np.asarray(jax.jit(backbone.encode)(backbone.params, video))
  assert latents.shape == (1, 1, 8, 8, 386)
  high, low = latents[..., -2:-1], latents[..., -1:]
  pixels = 2 * (latents[..., :-2] - low) / (high - low) - 1 + 0.5
  expected = video.reshape(2, 8, 8, 8, 8, 3).transpose(1, 3, 0, 2, 4, 5)
  np.testing.assert_allclose(
    pixels[0, 0], expected.reshape(8, 8, 384), atol=1e-5
  )
