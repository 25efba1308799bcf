"""VideoPrism's second stage: masked distillation (arXiv 2402.13217).

A student, which starts as the first stage's encoder, sees a part of the places
of a clip. From its tokens, shuffled so that none can be copied to where it came
from, a light decoder predicts every token of the first stage's encoder on the
whole clip, and one learned query predicts their mean. Errors are one minus the
cosine.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float, Int

from forecasting.backbones.encode import layer_norm, load_spec, to_model_range
from forecasting.backbones.spec import BackboneSpec
from forecasting.backbones.vit import BlockConfig
from forecasting.pretraining import masks, objective
from forecasting.pretraining.contrastive import unit
from forecasting.pretraining.mask_decoder import Decoder
from forecasting.pretraining.text import Gather
from forecasting.pretraining.tokens import encode_places
from forecasting.shapes import Array, Params, PRNGKey


class MaskedDistillation(objective.Objective):
  """Masked distillation; see the module.

  Parameters are {'encoder', 'decoder', 'gather'}.
  """

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks and reads the teacher.

    Args:
      spec: of a backbone of the family videoprism.
      cfg: the fields of `objective` in `configs/pretrain/videoprism_tiny.py`.

    Raises:
      FileNotFoundError: there is no file of the teacher's weights.
    """
    super().__init__(spec, cfg)
    self.teacher = load_spec(
      spec,
      checkpoint=cfg["teacher"],
      random_init=cfg["teacher"] is None,
    ).params
    self.decoder = Decoder(
      spec.grid, spec.width, cfg["width"], cfg["depth"], cfg["heads"]
    )
    self.gather = Gather(BlockConfig(spec.heads, spec.mlp_dim), spec.width)

  def init(self, key: PRNGKey) -> Params:
    """Returns the teacher's encoder and random parameters of the rest."""
    decoder, gather = jax.random.split(key)
    index = jnp.zeros((1, 1), jnp.int32)
    tokens = jnp.zeros((1, 1, self.spec.width))
    return {
      "encoder": self.teacher,
      "decoder": self.decoder.init(decoder, tokens, index, index)["params"],
      "gather": self.gather.init(gather, tokens)["params"],
    }

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the errors of the tokens and of their mean, weighted."""
    del average
    slots, rows, columns = self.spec.grid
    count = rows * columns
    keys = objective.clip_keys(key, batch)
    video = objective.flipped(batch, keys, self.cfg["flip"])
    video = to_model_range(video, self.spec)
    target = layer_norm(self.latents(self.teacher, video))
    target = rearrange(target, "B t h w D -> B (t h w) D")
    num_visible = round((1.0 - self.cfg["mask_fraction"]) * count)

    def draw(key: PRNGKey) -> tuple[Array, Array]:
      place_key, order_key = jax.random.split(jax.random.fold_in(key, 1))
      nothing = jnp.zeros(count, bool)
      places, _ = masks.split_places(place_key, nothing, num_visible)
      tokens = masks.in_all_slots(places, slots, count)
      return places, jax.random.permutation(order_key, tokens)

    places, shuffled = jax.vmap(draw)(keys)
    guess, mean = self.predict(params, video, places, shuffled)
    parts = {
      "tokens": _error(guess, target),
      "mean": _error(mean, target.mean(axis=1)),
    }
    return parts["tokens"] + self.cfg["mean_weight"] * parts["mean"], parts

  def predict(
    self,
    params: Params,
    video: Float[Array, "B T H W 3"],
    places: Int[Array, "B p"],
    shuffled: Int[Array, "B v"],
  ) -> tuple[Float[Array, "B n D"], Float[Array, "B D"]]:
    """Predicts all tokens of the teacher, and their mean.

    Args:
      params: as `init` makes them.
      video: whole clips in the range of the network.
      places: that the student sees.
      shuffled: where the decoder is told that the student's tokens are.
    """
    tokens = encode_places(self.network, params["encoder"], video, places)
    size = self.spec.grid[0] * self.spec.grid[1] * self.spec.grid[2]
    everywhere = jnp.broadcast_to(jnp.arange(size), (len(video), size))
    guess = self.decoder.apply(
      {"params": params["decoder"]}, tokens, shuffled, everywhere
    )
    mean = self.gather.apply({"params": params["gather"]}, tokens)
    return guess, mean


def _error(
  guess: Float[Array, "*n D"], target: Float[Array, "*n D"]
) -> Float[Array, ""]:
  """Returns one minus the cosine."""
  return 1.0 - (unit(guess) * unit(target)).sum(-1).mean()
