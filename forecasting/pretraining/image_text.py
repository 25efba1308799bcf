"""SigLIP: frames and captions of their scenes (arXiv 2303.15343).

Of each clip one random frame is encoded; one learned query gathers its tokens
to a vector, which is compared with the vectors of all captions of the batch.
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
from forecasting.pretraining.views import draw_view
from forecasting.shapes import Array, Params, PRNGKey


class ImageText(objective.Objective):
  """Frames and captions; see the module.

  Parameters are {'encoder', 'gather', 'text', 'scales'}.
  """

  keys = ("video", "text")

  def __init__(self, spec: BackboneSpec, cfg: Mapping[str, Any]) -> None:
    """Builds the networks.

    Args:
      spec: of a backbone that encodes single frames.
      cfg: the fields of `objective` in `configs/pretrain/siglip_tiny.py`.
    """
    super().__init__(spec, cfg)
    self.gather = Gather(
      BlockConfig(spec.heads, spec.mlp_dim), cfg["text_width"]
    )
    self.text = BagOfWords(cfg["text_width"], cfg["text_width"])

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters of both sides."""
    encoder, gather, text = jax.random.split(key, 3)
    tokens = jnp.zeros((1, 1, self.spec.width))
    words = jnp.zeros((1, MAX_WORDS), jnp.int32)
    return {
      "encoder": self.init_encoder(encoder),
      "gather": self.gather.init(gather, tokens)["params"],
      "text": self.text.init(text, words)["params"],
      "scales": contrastive.sigmoid_scales(),
    }

  def loss(
    self,
    params: Params,
    batch: Mapping[str, Any],
    key: PRNGKey,
    average: Params | None = None,
  ) -> objective.Losses:
    """Returns the sigmoid loss; logs how often the right text is nearest."""
    del average
    keys = objective.clip_keys(key, len(batch["video"]))
    frames = jax.vmap(self._draw)(keys, objective.pixels(batch))
    frames = objective.to_model_range(frames, self.spec)
    tokens = self.latents(params["encoder"], frames[:, None])
    pictures = self.gather.apply(
      {"params": params["gather"]},
      rearrange(tokens, "B t h w D -> B (t h w) D"),
    )
    texts = self.text.apply({"params": params["text"]}, batch["text"])
    loss = contrastive.sigmoid_loss(pictures, texts, params["scales"])
    return loss, {"hits": contrastive.hits(pictures, texts)}

  def _draw(self, key: PRNGKey, video: Array) -> jax.Array:
    """Draws a frame of a clip and crops it a little.

    Captions say left and right, but a mirrored frame has neither: motion cannot
    be seen in it.
    """
    frame_key, view_key = jax.random.split(key)
    frame = video[jax.random.randint(frame_key, (), 0, len(video))]
    scale = tuple(self.cfg["scale"])
    return draw_view(view_key, frame, self.spec.frame_size, scale)
