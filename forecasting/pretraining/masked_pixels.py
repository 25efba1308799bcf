"""Masked autoencoding of pixels: how the embedded backbone was pretrained.

A 4DS encoder sees a tenth of a clip's tubelets; a light decoder predicts the
pixels of hidden ones (VideoMAE, arXiv 2203.12602; 4DS, arXiv 2412.15212). Only
part of the hidden tubelets is decoded in a step (VideoMAEv2's dual masking).

The targets of a tubelet are its pixels normalized per channel within the
tubelet, which makes the network care for structure. That throws away color and
contrast, which a readout of pixels needs; so they are predicted beside it, as
`2 * 3` numbers, and visible tubelets are reconstructed too, with a small
weight (both our choice).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Float, Int, Key

from forecasting.backbones.four_ds import FourDS, to_patches
from forecasting.backbones.vit import Transformer
from forecasting.shapes import Array, Params, PRNGKey

STD_FLOOR = 0.01  # about 2.5 gray levels: below it, contrast is rounding


class Decoder(nn.Module):
  """Predicts tubelets from the encoder's visible tokens.

  Attributes:
    num_tokens: tokens of a whole clip.
    outputs: numbers predicted per token.
    width: features.
    depth: number of blocks.
    heads: number of attention heads.
  """

  num_tokens: int
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
    """Returns predictions for the visible tokens, then the decoded ones."""
    normal = nn.initializers.normal(0.02)
    positions = self.param("positions", normal, (self.num_tokens, self.width))
    mask_token = self.param("mask_token", normal, (self.width,))
    tokens = nn.LayerNorm(name="input_norm")(tokens)
    tokens = nn.Dense(self.width, name="input")(tokens) + positions[visible]
    tokens = jnp.concatenate([tokens, mask_token + positions[decoded]], axis=1)
    tokens = Transformer(
      self.depth, self.heads, 4 * self.width, final_norm=True, name="processor"
    )(tokens)
    return nn.Dense(self.outputs, name="output")(tokens)


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
) -> tuple[Float[Array, "B n p"], Float[Array, "B n 6"]]:
  """Splits tubelets into structure and color.

  Args:
    patches: flat tubelets, channels last, values in [0, 1].
    normalize: whether structure is normalized within each tubelet and channel.

  Returns:
    The pixels to predict, and per channel mean and standard deviation, scaled
    to a spread of about 1 over natural scenes.
  """
  pixels = rearrange(patches, "B n (p c) -> B n p c", c=3)
  mean = reduce(pixels, "B n p c -> B n 1 c", "mean")
  variance = reduce((pixels - mean) ** 2, "B n p c -> B n 1 c", "mean")
  std = jnp.sqrt(variance + STD_FLOOR**2)
  color = jnp.concatenate([(mean - 0.5) * 4.0, std * 8.0], axis=-1)
  structure = (pixels - mean) / std if normalize else (pixels - 0.5) * 4.0
  return (
    rearrange(structure, "B n p c -> B n (p c)"),
    rearrange(color, "B n 1 c -> B n c"),
  )


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
    self.num_tokens = slots * rows * columns
    self.video_shape = (slots * frames, rows * height, columns * width, 3)
    self.decoder = Decoder(
      self.num_tokens,
      frames * height * width * 3 + 6,
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
      The mean over clips, and what to log: 'pixels' is the error on hidden
      tubelets' structure (1 is what predicting zeros gives if normalized),
      'color' that of their mean and contrast, 'visible' both on visible ones.
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
    pixels, color = patch_targets(patches, self.cfg["normalize_target"])
    pixels_error = jnp.square(predicted[..., :-6] - pixels).mean(-1)
    color_error = jnp.square(predicted[..., -6:] - color).mean(-1)
    count = visible.shape[1]
    parts = {
      "pixels": pixels_error[:, count:].mean(),
      "color": color_error[:, count:].mean(),
    }
    weight = self.cfg["color_weight"]
    both = pixels_error + weight * color_error
    parts["visible"] = both[:, :count].mean()
    hidden = parts["pixels"] + weight * parts["color"]
    return hidden + self.cfg["visible_weight"] * parts["visible"], parts
