"""VideoPrism's first stage: videos and captions (arXiv 2402.13217).

The whole clip is encoded; one learned query gathers its tokens to a vector,
which is compared with the vectors of all captions of the batch.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from forecasting.backbones.spec import BackboneSpec
from forecasting.backbones.vit import BlockConfig
from forecasting.frames.scenes.captions import MAX_WORDS
from forecasting.pretraining import contrastive, objective
from forecasting.pretraining.text import BagOfWords, Gather
from forecasting.shapes import Params, PRNGKey


class VideoText(objective.Objective):
  """Videos and captions; see the module.

  Parameters are {'encoder', 'gather', 'text', 'scales'}.
  """

  keys = ("video", "text")

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      spec: of a backbone.
      cfg: the fields of `objective` in
        `configs/pretrain/videoprism_tiny_text.py`.
    """
    super().__init__(spec, cfg)
    width = cfg["text_width"]
    self.gather = Gather(BlockConfig(spec.heads, spec.mlp_dim), width)
    self.text = BagOfWords(width, width)

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters of both sides."""
    encoder, gather, text = jax.random.split(key, 3)
    tokens = jnp.zeros((1, 1, self.spec.width))
    words = jnp.zeros((1, MAX_WORDS), jnp.int32)
    return {
      "encoder": self.init_encoder(encoder),
      "gather": self.gather.init(gather, tokens)["params"],
      "text": self.text.init(text, words)["params"],
      "scales": contrastive.softmax_scales(),
    }

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the softmax loss; logs how often the right text is nearest.

    Clips are not mirrored: their captions say left and right.
    """
    del key, average
    video = objective.to_model_range(objective.pixels(batch), self.spec)
    tokens = self.latents(params["encoder"], video)
    clips = self.gather.apply(
      {"params": params["gather"]},
      rearrange(tokens, "B t h w D -> B (t h w) D"),
    )
    texts = self.text.apply({"params": params["text"]}, batch["text"])
    loss = contrastive.softmax_loss(clips, texts, params["scales"])
    return loss, {"hits": contrastive.hits(clips, texts)}
