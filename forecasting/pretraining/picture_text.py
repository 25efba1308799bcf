"""Pictures and the captions of their scenes: what both such objectives share.

One learned query gathers the tokens of a picture to a vector, which is compared
with the vectors of all captions of the batch.
"""

import abc
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Float, Int

from forecasting.backbones.encode import to_model_range
from forecasting.backbones.spec import BackboneSpec
from forecasting.backbones.vit import BlockConfig
from forecasting.frames.scenes.captions import MAX_WORDS
from forecasting.pretraining import contrastive, objective
from forecasting.pretraining.text import BagOfWords, Gather
from forecasting.shapes import Array, Params, PRNGKey


class PictureText(objective.Objective):
  """Pictures and captions; see the module.

  Subclasses choose what of a clip is the picture, and one of the losses of
  `contrastive.py`. Parameters are {'encoder', 'gather', 'text', 'scales'}.
  """

  keys = ("video", "text")
  compares_clips = True

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      spec: of the backbone to pretrain.
      cfg: fields of `config.objective`; 'text_width' is the size of the vectors
        to compare.
    """
    super().__init__(spec, cfg)
    width = cfg["text_width"]
    self.gather = Gather(BlockConfig(spec.heads, spec.mlp_dim), width)
    self.text = BagOfWords(width, width)

  @staticmethod
  @abc.abstractmethod
  def scales() -> Params:
    """Returns the initial scales of the loss."""

  @staticmethod
  @abc.abstractmethod
  def compare(
    pictures: Float[Array, "B E"], texts: Float[Array, "B E"], scales: Params
  ) -> Float[Array, ""]:
    """Returns the loss of a batch of pairs."""

  @abc.abstractmethod
  def pictures(
    self, batch: Mapping[str, Any], key: PRNGKey
  ) -> tuple[Float[Array, "B T H W 3"], Int[Array, "B m"]]:
    """Returns what is encoded of the clips, in [0, 1], and the words of it."""

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters of both sides."""
    encoder, gather, text = jax.random.split(key, 3)
    tokens = jnp.zeros((1, 1, self.spec.width))
    words = jnp.zeros((1, MAX_WORDS), jnp.int32)
    return {
      "encoder": self.init_encoder(encoder),
      "gather": self.gather.init(gather, tokens)["params"],
      "text": self.text.init(text, words)["params"],
      "scales": self.scales(),
    }

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the loss; logs how often the right text is nearest."""
    del average
    video, words = self.pictures(batch, key)
    video = to_model_range(video, self.spec)
    tokens = self.latents(params["encoder"], video)
    pictures = self.gather.apply(
      {"params": params["gather"]},
      rearrange(tokens, "B t h w D -> B (t h w) D"),
    )
    texts = self.text.apply({"params": params["text"]}, words)
    loss = self.compare(pictures, texts, params["scales"])
    return loss, {"hits": contrastive.hits(pictures, texts)}
