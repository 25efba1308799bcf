"""Masked autoencoding of pixels: 4DS, VideoMAE and VideoMAEv2.

An encoder sees a tenth of a clip's tubelets; a light decoder predicts the
pixels of hidden ones (VideoMAE, arXiv 2203.12602; 4DS, arXiv 2412.15212). Only
part of the hidden tubelets may be decoded in a step (VideoMAEv2's dual
masking, arXiv 2303.16727).

Targets are the pixels themselves, or the pixels normalized per channel within
the tubelet. Normalized ones make a network care for structure, but in scenes
that move this much most of it cannot be guessed from a tenth of the tubelets,
and in a short pretraining of 4DS nothing was learnt from them. Visible tubelets
may be reconstructed too, by one dense layer from the encoder's normalized
tokens (our choice): a readout of pixels needs the detail of the token's own
place, which prediction alone lets the encoder forget.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from forecasting.backbones.encode import to_model_range
from forecasting.backbones.four_ds import to_patches
from forecasting.backbones.spec import BackboneSpec
from forecasting.pretraining import objective
from forecasting.pretraining.mask_decoder import Decoder
from forecasting.pretraining.pixel_targets import patch_targets
from forecasting.pretraining.tokens import encode_visible, take_tokens
from forecasting.shapes import Array, Params, PRNGKey

MASKINGS = ("random", "tube")
DECODINGS = ("random", "running_cell")
CELL = 2  # rows and columns of a running cell


def draw_mask(
  key: PRNGKey,
  grid: tuple[int, int, int],
  masking: str,
  mask_fraction: float,
  decode_fraction: float,
  decoding: str = "random",
) -> tuple[Int[Array, "v"], Int[Array, "m"]]:
  """Draws the visible and the decoded tokens of one clip.

  Args:
    key: randomness of this clip and step.
    grid: slots, rows and columns.
    masking: 'random' tokens, or 'tube': the same places in every slot.
    mask_fraction: share of tokens hidden from the encoder.
    decode_fraction: share of the hidden tokens that is decoded.
    decoding: 'random' ones of them, or 'running_cell': first those that a
      pattern of 2 x 2 places picks, which runs through the cell with time.

  Returns:
    Flat indices of visible and of decoded tokens; the two never share one.

  Raises:
    ValueError: if `masking` or `decoding` is none of these.
  """
  for field, value, known in (
    ("masking", masking, MASKINGS),
    ("decoding", decoding, DECODINGS),
  ):
    if value not in known:
      raise ValueError(
        f"{field} is {value!r}; expected one of {', '.join(known)}. Set it in"
        f" the config's objective.{field}."
      )
  slots, rows, columns = grid
  num_tokens, num_places = slots * rows * columns, rows * columns
  token_key, place_key = jax.random.split(key)
  order = jax.random.uniform(token_key, (num_tokens,))
  num_visible = round(num_tokens * (1 - mask_fraction))
  if masking == "tube":
    shown = round(num_places * (1 - mask_fraction))
    places = jax.random.permutation(place_key, num_places)
    order += jnp.tile(places >= shown, slots)
    num_visible = slots * shown
  num_decoded = round((num_tokens - num_visible) * decode_fraction)
  order = jnp.argsort(order)
  visible, hidden = order[:num_visible], order[num_visible:]
  if decoding == "running_cell":
    cell_key = jax.random.fold_in(place_key, 1)
    late = ~running_cell(cell_key, grid, decode_fraction)[hidden]
    hidden = hidden[jnp.argsort(late, stable=True)]
  return visible, hidden[:num_decoded]


def running_cell(
  key: PRNGKey, grid: tuple[int, int, int], share: float
) -> Array:
  """Picks places of each 2 x 2 cell that move on by one from slot to slot.

  So every place is picked in about the same share of the slots.

  Args:
    key: chooses where the pattern starts.
    grid: slots, rows and columns.
    share: of the places of a cell that is picked, in fourths.

  Returns:
    Whether each token is picked, flat.

  Source: arXiv 2303.16727.
  """
  slot, row, column = (x.ravel() for x in np.indices(grid))
  place = CELL * (row % CELL) + column % CELL
  start = jax.random.randint(key, (), 0, CELL**2)
  return (place + slot + start) % CELL**2 < round(share * CELL**2)


class MaskedPixels(objective.Objective):
  """Masked autoencoding; see the module.

  Parameters are {'encoder', 'decoder'}.
  """

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      spec: of a backbone of the family 4ds or videomae.
      cfg: the fields of `objective` in `configs/pretrain/4ds_tiny.py`.
    """
    super().__init__(spec, cfg)
    self.patch = (spec.tubelet, spec.patch, spec.patch)
    self.decoder = Decoder(
      spec.grid,
      3 * int(np.prod(self.patch)),
      cfg["decoder_width"],
      cfg["decoder_depth"],
      cfg["decoder_heads"],
      reconstructs=cfg["visible_weight"] > 0,
    )

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters of encoder and decoder."""
    encoder_key, decoder_key = jax.random.split(key)
    index = jnp.zeros((1, 1), jnp.int32)
    tokens = jnp.zeros((1, 1, self.spec.width))
    decoder = self.decoder.init(decoder_key, tokens, index, index)
    return {
      "encoder": self.init_encoder(encoder_key),
      "decoder": decoder["params"],
    }

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the loss of one step and its parts.

    The parts are the errors on 'hidden' and, if they are reconstructed, on
    'visible' tubelets.
    """
    del average
    keys = objective.clip_keys(key, batch)
    visible, decoded, is_flipped = jax.vmap(self._draw)(keys)
    video = objective.flip_some(objective.pixels(batch), is_flipped)
    tokens = encode_visible(
      self.network,
      params["encoder"],
      to_model_range(video, self.spec),
      visible,
    )
    predicted = self.decoder.apply(
      {"params": params["decoder"]}, tokens, visible, decoded
    )
    return self._errors(video, predicted, visible, decoded)

  def _draw(self, key: Key[Array, ""]) -> tuple[Array, Array, Array]:
    """Draws visible tokens, decoded tokens and the flip of one clip."""
    mask_key, flip_key = jax.random.split(key)
    visible, decoded = draw_mask(
      mask_key,
      self.spec.grid,
      self.cfg["masking"],
      self.cfg["mask_fraction"],
      self.cfg["decode_fraction"],
      self.cfg.get("decoding", "random"),
    )
    is_flipped = jax.random.bernoulli(flip_key) & self.cfg["flip"]
    return visible, decoded, is_flipped

  def _errors(
    self,
    video: Float[Array, "B T H W 3"],
    predicted: Float[Array, "B n p"],
    visible: Int[Array, "B v"],
    decoded: Int[Array, "B m"],
  ) -> objective.Losses:
    """Compares predictions with the pixels."""
    patches = to_patches(video, self.patch)
    normalize = self.cfg["normalize_target"]
    targets = patch_targets(take_tokens(patches, decoded), normalize)
    count = predicted.shape[1] - decoded.shape[1]
    hidden = jnp.square(predicted[:, count:] - targets).mean()
    if not count:
      return hidden, {"hidden": hidden}
    targets = patch_targets(take_tokens(patches, visible), normalize)
    seen = jnp.square(predicted[:, :count] - targets).mean()
    total = hidden + self.cfg["visible_weight"] * seen
    return total, {"hidden": hidden, "visible": seen}
