"""The tokenizer that W.A.L.T. denoises the latents of: a small autoencoder.

W.A.L.T.'s own, a MAGVIT-v2 with continuous latents trained adversarially, is
not public. This one is trained by the squared error of pixels alone, and each
channel of its latents is drawn to mean 0 and deviation 1 over the batch.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float

from forecasting.backbones.encode import to_model_range
from forecasting.backbones.spec import BackboneSpec
from forecasting.backbones.walt import Walt
from forecasting.backbones.walt_tokenizer import ResidualBlock, TokenizerConfig
from forecasting.pretraining import objective
from forecasting.shapes import Array, Params, PRNGKey


class PixelDecoder(nn.Module):
  """Latents -> pixels.

  Attributes:
    config: of the tokenizer; its blocks are used here too.
    width: features.
    depth: number of residual blocks.
    patch: frames, rows and columns of pixels of a latent.
  """

  config: TokenizerConfig
  width: int
  depth: int
  patch: tuple[int, int, int]

  @nn.compact
  def __call__(
    self, latents: Float[Array, "B t h w c"]
  ) -> Float[Array, "B T H W 3"]:
    """Decodes whole clips; the slot of the doubled first frame has one."""
    frames, rows, columns = self.patch
    hidden = nn.Dense(self.width, name="input")(latents)
    for i in range(self.depth):
      hidden = ResidualBlock(self.width, self.config, name=f"block_{i}")(hidden)
    pixels = nn.Dense(frames * rows * columns * 3, name="output")(hidden)
    return rearrange(
      pixels[:, 1:],
      "B t h w (p a b c) -> B (t p) (h a) (w b) c",
      p=frames,
      a=rows,
      b=columns,
    )


class VideoTokenizer(objective.Objective):
  """Autoencoding of clips; see the module.

  Parameters are {'encoder', 'decoder'}; only the tokenizer of the encoder is
  trained.
  """

  compares_clips = True  # moments are those of a batch

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      spec: of a backbone of the family walt.
      cfg: the fields of `objective` in
        `configs/pretrain/walt_tiny_tokenizer.py`.
    """
    super().__init__(spec, cfg)
    self.decoder = PixelDecoder(
      self.network.tokenizer_config,
      cfg["width"],
      cfg["depth"],
      (spec.tubelet, spec.patch, spec.patch),
    )

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters."""
    encoder, decoder = jax.random.split(key)
    slots, rows, columns = self.spec.grid
    channels = self.network.tokenizer_config.channels
    latents = jnp.zeros((1, slots + 1, rows, columns, channels))
    return {
      "encoder": self.init_encoder(encoder),
      "decoder": self.decoder.init(decoder, latents)["params"],
    }

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the error of the pixels, in the network's range, and moments."""
    del average
    keys = objective.clip_keys(key, batch)
    video = objective.flipped(batch, keys, self.cfg["flip"])
    video = to_model_range(video, self.spec)

    def tokenize(module: Walt) -> jax.Array:
      return module.clean_latents(video)

    latents = self.network.apply({"params": params["encoder"]}, method=tokenize)
    decoded = self.decoder.apply({"params": params["decoder"]}, latents)
    mean = latents.mean((0, 1, 2, 3))
    deviation = jnp.sqrt(latents.var((0, 1, 2, 3)) + 1e-6)
    parts = {
      "pixels": jnp.square(decoded - video).mean(),
      "moments": (jnp.square(mean) + jnp.square(jnp.log(deviation))).mean(),
    }
    weight = self.cfg["moments_weight"]
    return parts["pixels"] + weight * parts["moments"], parts
