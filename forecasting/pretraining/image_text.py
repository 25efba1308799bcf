"""SigLIP: frames and captions of their scenes (arXiv 2303.15343).

The picture is one random frame of the clip, cropped a little, mirrored or not.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from forecasting.frames.scenes.captions import mirror_words
from forecasting.pretraining import contrastive, objective
from forecasting.pretraining.picture_text import PictureText
from forecasting.pretraining.views import draw_view
from forecasting.shapes import Array, PRNGKey


class ImageText(PictureText):
  """Frames and captions; see the module.

  Fields of `objective` are those in `configs/pretrain/siglip_tiny.py`.
  """

  scales = staticmethod(contrastive.sigmoid_scales)
  compare = staticmethod(contrastive.sigmoid_loss)

  def pictures(
    self, batch: Mapping[str, Any], key: PRNGKey
  ) -> tuple[Float[Array, "B 1 H W 3"], Int[Array, "B m"]]:
    """Draws a view of a frame of each clip; words follow mirrored ones."""
    keys = objective.clip_keys(key, batch)
    frames, is_mirrored = jax.vmap(self._draw)(keys, objective.pixels(batch))
    words = batch["text"]
    words = jnp.where(is_mirrored[:, None], mirror_words(words), words)
    return frames[:, None], words

  def _draw(self, key: PRNGKey, video: Array) -> tuple[Array, Array]:
    """Draws a frame of a clip and a view of it; says whether it is mirrored."""
    frame_key, view_key = jax.random.split(key)
    frame = video[jax.random.randint(frame_key, (), 0, len(video))]
    scale = tuple(self.cfg["scale"])
    return draw_view(view_key, frame, self.spec.frame_size, scale)
