"""Masked autoencoding of pixels: how the embedded backbone was pretrained.

A 4DS encoder sees a tenth of a clip's tubelets; a light decoder predicts the
pixels of hidden ones (VideoMAE, arXiv 2203.12602; 4DS, arXiv 2412.15212). Only
part of the hidden tubelets is decoded in a step (VideoMAEv2's dual masking).

Targets are the pixels themselves, or the pixels normalized per channel within
the tubelet. Normalized ones make a network care for structure, but in scenes
that move this much most of it cannot be guessed from a tenth of the tubelets,
and in a short pretraining nothing was learnt from them. Visible tubelets are
reconstructed too, by one dense layer from the encoder's normalized tokens (our
choice): a readout of pixels needs the detail of the token's own place, which
prediction alone lets the encoder forget.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Float, Int, Key

from forecasting.backbones.encode import layer_norm
from forecasting.backbones.four_ds import FourDS, to_patches
from forecasting.backbones.vit import BlockConfig, Transformer, wave_positions
from forecasting.shapes import Array, Params, PRNGKey

PIXEL_SCALE = 4.0  # about one over the spread of pixels in [0, 1]
STD_FLOOR = 0.01  # about 2.5 gray levels: below it, contrast is rounding


class Decoder(nn.Module):
  """Predicts tubelets from the encoder's visible tokens.

  Attributes:
    grid: slots, rows and columns of a whole clip.
    outputs: numbers predicted per token.
    width: features.
    depth: number of blocks.
    heads: number of attention heads.
  """

  grid: tuple[int, int, int]
  outputs: int
  width: int
  depth: int
  heads: int

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "B v D"],
    visible: Int[Array, "B v"],
    decoded: Int[Array, "B m"],
  ) -> Float[Array, "B n p"]:
    """Returns visible tokens reconstructed, then decoded ones guessed."""
    positions = self.param("positions", self._initial_positions)
    mask_token = self.param(
      "mask_token", nn.initializers.normal(0.02), (self.width,)
    )
    tokens = layer_norm(tokens)
    reconstructed = nn.Dense(self.outputs, name="reconstruction")(tokens)
    tokens = nn.Dense(self.width, name="input")(tokens) + positions[visible]
    tokens = jnp.concatenate([tokens, mask_token + positions[decoded]], axis=1)
    block = BlockConfig(self.heads, 4 * self.width)
    tokens = Transformer(self.depth, block, final_norm=True, name="processor")(
      tokens
    )
    guessed = nn.Dense(self.outputs, name="output")(
      tokens[:, visible.shape[1] :]
    )
    return jnp.concatenate([reconstructed, guessed], axis=1)

  def _initial_positions(self, key: PRNGKey) -> Float[Array, "n D"]:
    """Returns waves; draws nothing."""
    del key
    waves = jnp.array(wave_positions(self.grid, self.width))
    return rearrange(waves, "t h w D -> (t h w) D")


def draw_mask(
  key: PRNGKey,
  grid: tuple[int, int, int],
  masking: str,
  mask_fraction: float,
  decode_fraction: float,
) -> tuple[Int[Array, "v"], Int[Array, "m"]]:
  """Draws the visible and the decoded tokens of one clip.

  Args:
    key: randomness of this clip and step.
    grid: slots, rows and columns.
    masking: 'random' tokens, or 'tube': the same places in every slot.
    mask_fraction: share of tokens hidden from the encoder.
    decode_fraction: share of the hidden tokens that is decoded.

  Returns:
    Flat indices of visible and of decoded tokens; the two never share one.

  Raises:
    ValueError: if `masking` is neither of the two.
  """
  slots, rows, columns = grid
  num_tokens = slots * rows * columns
  token_key, place_key = jax.random.split(key)
  order = jax.random.uniform(token_key, (num_tokens,))
  if masking == "random":
    num_visible = round(num_tokens * (1 - mask_fraction))
  elif masking == "tube":
    places = jax.random.permutation(place_key, rows * columns)
    num_places = round(rows * columns * (1 - mask_fraction))
    num_visible = slots * num_places
    order += jnp.tile(places >= num_places, slots)
  else:
    raise ValueError(
      f"masking is {masking!r}; expected 'random' or 'tube'. Set it in the"
      " config's masked_pixels.masking."
    )
  num_decoded = round((num_tokens - num_visible) * decode_fraction)
  order = jnp.argsort(order)
  return order[:num_visible], order[num_visible : num_visible + num_decoded]


def patch_targets(
  patches: Float[Array, "B n p"], normalize: bool
) -> Float[Array, "B n p"]:
  """Returns what is to be predicted of tubelets.

  Args:
    patches: flat tubelets, channels last, values in [0, 1].
    normalize: whether to normalize within each tubelet and channel, instead of
      one fixed scale for all pixels.

  Returns:
    Targets with a spread of about 1.
  """
  if not normalize:
    return (patches - 0.5) * PIXEL_SCALE
  pixels = rearrange(patches, "B n (p c) -> B n p c", c=3)
  centered = pixels - reduce(pixels, "B n p c -> B n 1 c", "mean")
  variance = reduce(centered**2, "B n p c -> B n 1 c", "mean")
  centered /= jnp.sqrt(variance + STD_FLOOR**2)
  return rearrange(centered, "B n p c -> B n (p c)")


class MaskedPixels:
  """The pretraining task: initial parameters and loss.

  Parameters are {'encoder': those of the 4DS encoder, 'decoder': ...}.
  """

  def __init__(self, encoder: FourDS, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      encoder: the network to pretrain.
      cfg: the fields of `masked_pixels` in `configs/pretrain/4ds_tiny.py`.
    """
    self.encoder = encoder
    self.cfg = cfg
    slots, rows, columns = encoder.grid
    frames, height, width = encoder.patch
    self.video_shape = (slots * frames, rows * height, columns * width, 3)
    self.decoder = Decoder(
      encoder.grid,
      frames * height * width * 3,
      cfg["decoder_width"],
      cfg["decoder_depth"],
      cfg["decoder_heads"],
    )

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters of encoder and decoder."""
    encoder_key, decoder_key = jax.random.split(key)
    video = jnp.zeros((1, *self.video_shape))
    index = jnp.zeros((1, 1), jnp.int32)
    tokens = jnp.zeros((1, 1, self.encoder.width))
    encoder = self.encoder.init(encoder_key, video, index)
    decoder = self.decoder.init(decoder_key, tokens, index, index)
    return {"encoder": encoder["params"], "decoder": decoder["params"]}

  def loss(
    self, params: Params, batch: Mapping[str, Any], key: PRNGKey
  ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Returns the loss of one step and its parts.

    Args:
      params: as `init` makes them.
      batch: 'video', uint8 clips.
      key: randomness of masks and flips.

    Returns:
      The mean over clips, and what to log: the errors on 'hidden' and on
      'visible' tubelets.
    """
    video = jnp.asarray(batch["video"], jnp.float32) / 255.0
    index = jnp.arange(video.shape[0])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    visible, decoded, flipped = jax.vmap(self._draw)(keys)
    video = jnp.where(
      flipped[:, None, None, None, None], jnp.flip(video, axis=3), video
    )
    tokens = self.encoder.apply({"params": params["encoder"]}, video, visible)
    predicted = self.decoder.apply(
      {"params": params["decoder"]}, tokens, visible, decoded
    )
    return self._errors(video, predicted, visible, decoded)

  def _draw(self, key: Key[Array, ""]) -> tuple[Array, Array, Array]:
    """Draws visible tokens, decoded tokens and the flip of one clip."""
    mask_key, flip_key = jax.random.split(key)
    visible, decoded = draw_mask(
      mask_key,
      self.encoder.grid,
      self.cfg["masking"],
      self.cfg["mask_fraction"],
      self.cfg["decode_fraction"],
    )
    is_flipped = jax.random.bernoulli(flip_key) & self.cfg["flip"]
    return visible, decoded, is_flipped

  def _errors(
    self, video: Array, predicted: Array, visible: Array, decoded: Array
  ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Compares predictions with the pixels."""
    patches = to_patches(video, self.encoder.patch)
    index = jnp.concatenate([visible, decoded], axis=1)
    patches = jnp.take_along_axis(patches, index[..., None], axis=1)
    targets = patch_targets(patches, self.cfg["normalize_target"])
    errors = jnp.square(predicted - targets).mean(-1)
    count = visible.shape[1]
    parts = {
      "hidden": errors[:, count:].mean(),
      "visible": errors[:, :count].mean(),
    }
    weight = self.cfg["visible_weight"]
    return parts["hidden"] + weight * parts["visible"], parts
