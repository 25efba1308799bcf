"""VideoPrism's first stage: videos and captions (arXiv 2402.13217).

The picture is the whole clip, as it comes.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int

from forecasting.pretraining import contrastive, objective
from forecasting.pretraining.picture_text import PictureText
from forecasting.shapes import Array, PRNGKey


class VideoText(PictureText):
  """Videos and captions; see the module.

  Fields of `objective` are those in `configs/pretrain/videoprism_tiny_text.py`.
  """

  scales = staticmethod(contrastive.softmax_scales)
  compare = staticmethod(contrastive.softmax_loss)

  def pictures(
    self, batch: Mapping[str, Any], key: PRNGKey
  ) -> tuple[Float[Array, "B T H W 3"], Int[Array, "B m"]]:
    """Returns whole clips and their words; nothing is drawn."""
    del key
    return objective.pixels(batch), batch["text"]
