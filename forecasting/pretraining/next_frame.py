"""NExT-Vid: masked next-frame prediction (arXiv 2512.21004).

Blocks of places are removed from all slots, and a frame-causal encoder reads
the rest. A predictor guesses the representation of every later slot from the
encoder's tokens of earlier slots alone: its queries look at these tokens by
cross-attention, never at one another, and never change them (the context is
isolated). The guess is used twice:

  align  it should equal what a reference encoder, the running average of the
         encoder, makes of the whole, unmasked clip;
  flow   a decoder that sees nothing but the guess and a noisy slot removes the
         noise, slot by slot.

What the paper leaves open is ours: one learned query for all places, told
apart by rotary positions; the reference is layer-normalized, as in V-JEPA and
as frozen latents are read; targets of the flow are the pixels of a tubelet and
not the latents of a separate image tokenizer (VA-VAE).
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int

from forecasting.backbones.encode import layer_norm, to_model_range
from forecasting.backbones.four_ds import to_patches
from forecasting.backbones.rotary import frame_causal, make_rotate
from forecasting.backbones.vit import BlockConfig
from forecasting.pretraining import masks, objective
from forecasting.pretraining.blocks import (
  CrossBlock,
  ModulatedBlock,
  time_waves,
)
from forecasting.pretraining.pixel_targets import patch_targets
from forecasting.pretraining.tokens import encode_visible, rotate_at
from forecasting.shapes import Array, Params, PRNGKey

FLOW_LEVELS = 1000  # of the time between noise and data


def earlier_slots(
  num_slots: int, num_queries: int, num_keys: int
) -> Bool[Array, "n m"]:
  """Returns the mask by which queries see strictly earlier slots.

  Args:
    num_slots: of the clip. There are no queries for the first one, which
      nothing precedes.
    num_queries: per slot.
    num_keys: per slot.
  """
  query = repeat(jnp.arange(1, num_slots), "t -> (t n)", n=num_queries)
  key = repeat(jnp.arange(num_slots), "t -> (t m)", m=num_keys)
  return key[None, :] < query[:, None]


class Predictor(nn.Module):
  """From the encoder's tokens to every later slot's representation.

  Attributes:
    grid: slots, rows and columns of a clip.
    outputs: features of a representation.
    width: features of a query.
    depth: number of blocks.
    block: of every block.
  """

  grid: tuple[int, int, int]
  outputs: int
  width: int
  depth: int
  block: BlockConfig

  @nn.compact
  def __call__(
    self, context: Float[Array, "B v E"], visible: Int[Array, "B v"]
  ) -> Float[Array, "B n D"]:
    """Predicts all places of all slots but the first.

    Args:
      context: the encoder's tokens, as many in each slot, slot by slot.
      visible: their flat indices.
    """
    slots, rows, columns = self.grid
    places, head_dim = rows * columns, self.width // self.block.heads
    asked = jnp.arange(places, slots * places)
    rotate = (
      rotate_at(self.grid, head_dim, asked),
      rotate_at(self.grid, head_dim, visible),
    )
    mask = earlier_slots(slots, places, visible.shape[1] // slots)
    context = nn.Dense(self.width, name="input")(context)
    context = nn.LayerNorm(name="context_norm")(context)
    query = self.param("query", nn.initializers.zeros, (self.width,))
    tokens = jnp.broadcast_to(query, (len(context), len(asked), self.width))
    for i in range(self.depth):
      tokens = CrossBlock(self.block, name=f"layers_{i}")(
        tokens, context, rotate, mask
      )
    tokens = nn.LayerNorm(name="norm")(tokens)
    return nn.Dense(self.outputs, name="output")(tokens)


class FlowDecoder(nn.Module):
  """Predicts the velocity of noisy slots, each by itself.

  Attributes:
    grid: rows and columns of a slot.
    width: features of a token.
    depth: number of blocks.
    block: of every block.
  """

  grid: tuple[int, int]
  width: int
  depth: int
  block: BlockConfig

  @nn.compact
  def __call__(
    self,
    noisy: Float[Array, "B n p"],
    condition: Float[Array, "B n D"],
    time: Float[Array, "B"],
  ) -> Float[Array, "B n p"]:
    """Decodes slots; tokens attend within their slot, which is all there is.

    Args:
      noisy: tubelets of one slot, mixed with noise.
      condition: the slot's predicted representation.
      time: 0 for noise alone, 1 for data.
    """
    head_dim = self.width // self.block.heads
    rotate = make_rotate((1, *self.grid), head_dim)
    tokens = jnp.concatenate([condition, noisy], axis=-1)
    tokens = nn.Dense(self.width, name="input")(tokens)
    level = nn.Dense(self.width, name="time_in")(time_waves(time))
    level = nn.Dense(self.width, name="time_out")(nn.silu(level))
    for i in range(self.depth):
      tokens = ModulatedBlock(self.block, name=f"layers_{i}")(
        tokens, level, rotate
      )
    tokens = nn.LayerNorm(name="norm")(tokens)
    return nn.Dense(noisy.shape[-1], name="output")(tokens)


class NextFrame(objective.Objective):
  """Masked next-frame prediction; see the module.

  Parameters are {'encoder', 'predictor', 'decoder'}.
  """

  uses_average = True

  def __init__(self, spec: Any, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      spec: of a backbone of the family next_vid.
      cfg: the fields of `objective` in `configs/pretrain/next_vid_tiny.py`.
    """
    super().__init__(spec, cfg)
    block = BlockConfig(
      cfg["heads"], 4 * cfg["width"], gelu="erf", epsilon=1e-6
    )
    sizes = {"width": cfg["width"], "depth": cfg["depth"], "block": block}
    self.predictor = Predictor(spec.grid, spec.width, **sizes)
    self.decoder = FlowDecoder(spec.grid[1:], **sizes)
    self.patch = (spec.tubelet, spec.patch, spec.patch)

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters of encoder, predictor and decoder."""
    keys = jax.random.split(key, 3)
    slots, rows, columns = self.spec.grid
    places, width = rows * columns, self.spec.width
    index = jnp.arange(slots)[None] * places
    context = jnp.zeros((1, slots, width))
    noisy = jnp.zeros((1, places, 3 * int(np.prod(self.patch))))
    condition = jnp.zeros((1, places, width))
    return {
      "encoder": self.init_encoder(keys[0]),
      "predictor": self.predictor.init(keys[1], context, index)["params"],
      "decoder": self.decoder.init(keys[2], noisy, condition, jnp.zeros(1))[
        "params"
      ],
    }

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the weighted sum of both losses, averaged over the maskings.

    Logged beside them: the 'spread' of the reference over clips, at each token.
    It falls to 0 if the encoder forgets what it sees.
    """
    cfg, places = self.cfg, self.spec.grid[1] * self.spec.grid[2]
    keys = objective.clip_keys(key, batch)
    frames = objective.flipped(batch, keys, cfg["flip"])
    video = to_model_range(frames, self.spec)
    reference = layer_norm(self.latents(average["encoder"], video))
    reference = jax.lax.stop_gradient(
      rearrange(reference, "B t h w D -> B (t h w) D")[:, places:]
    )
    targets = patch_targets(
      to_patches(frames, self.patch), cfg["normalize_target"]
    )[:, places:]
    aligns, flows = [], []
    for number, masking in enumerate(cfg["maskings"]):
      drawn = jax.vmap(jax.random.fold_in, (0, None))(keys, number + 1)
      visible, _ = masks.draw_tubes(
        drawn, self.spec.grid, masking, cfg["aspect"]
      )
      guess = self.predict(params, video, visible)
      aligns.append(jnp.square(guess - reference).mean())
      flows.append(self._flow_loss(params, guess, targets, drawn))
    parts = {
      "align": sum(aligns) / len(aligns),
      "flow": sum(flows) / len(flows),
      "spread": reference.std(axis=0).mean(),
    }
    total = (
      cfg["align_weight"] * parts["align"] + cfg["flow_weight"] * parts["flow"]
    )
    return total, parts

  def predict(
    self,
    params: Params,
    video: Float[Array, "B T H W 3"],
    visible: Int[Array, "B v"],
  ) -> Float[Array, "B n D"]:
    """Returns the predicted representation of all slots but the first.

    Args:
      params: as `init` makes them.
      video: whole clips in the range of the network.
      visible: flat tokens that the encoder sees, as many in each slot.
    """
    slots = self.spec.grid[0]
    mask = frame_causal((slots, 1, visible.shape[1] // slots))
    context = encode_visible(
      self.network, params["encoder"], video, visible, mask
    )
    return self.predictor.apply(
      {"params": params["predictor"]}, context, visible
    )

  def _flow_loss(
    self,
    params: Params,
    guess: Float[Array, "B n D"],
    targets: Float[Array, "B n p"],
    keys: Array,
  ) -> Float[Array, ""]:
    """Returns the error of the velocity at several times of each slot."""
    later = self.spec.grid[0] - 1

    def draw(key: Array) -> tuple[Array, Array]:
      time_key, noise_key = jax.random.split(jax.random.fold_in(key, 0))
      shape = (self.cfg["times"], later)
      step = jax.random.randint(time_key, shape, 0, FLOW_LEVELS)
      noise_shape = (self.cfg["times"], *targets.shape[1:])
      return step / FLOW_LEVELS, jax.random.normal(noise_key, noise_shape)

    time, noise = jax.vmap(draw)(keys)
    slots = functools.partial(rearrange, pattern="B (t n) x -> B 1 t n x")
    data, guess = (slots(x, t=later) for x in (targets, guess))
    noise = rearrange(noise, "B r (t n) p -> B r t n p", t=later)
    share = time[..., None, None]
    noisy = (1.0 - share) * noise + share * data
    guess = jnp.broadcast_to(guess, (*noisy.shape[:4], guess.shape[-1]))
    together = functools.partial(rearrange, pattern="B r t n x -> (B r t) n x")
    velocity = self.decoder.apply(
      {"params": params["decoder"]},
      together(noisy),
      together(guess),
      time.ravel(),
    )
    return jnp.square(velocity - together(data - noise)).mean()
