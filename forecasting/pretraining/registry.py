"""All pretraining objectives by name."""

from collections.abc import Mapping
from typing import Any

from forecasting.backbones.spec import BackboneSpec
from forecasting.pretraining.feature_prediction import FeaturePrediction
from forecasting.pretraining.image_text import ImageText
from forecasting.pretraining.masked_distillation import MaskedDistillation
from forecasting.pretraining.masked_pixels import MaskedPixels
from forecasting.pretraining.next_frame import NextFrame
from forecasting.pretraining.objective import Objective
from forecasting.pretraining.self_distillation import SelfDistillation
from forecasting.pretraining.video_diffusion import VideoDiffusion
from forecasting.pretraining.video_text import VideoText
from forecasting.pretraining.video_tokenizer import VideoTokenizer

OBJECTIVES: dict[str, type[Objective]] = {
  "feature_prediction": FeaturePrediction,
  "image_text": ImageText,
  "masked_distillation": MaskedDistillation,
  "masked_pixels": MaskedPixels,
  "next_frame": NextFrame,
  "self_distillation": SelfDistillation,
  "video_diffusion": VideoDiffusion,
  "video_text": VideoText,
  "video_tokenizer": VideoTokenizer,
}


def make_objective(spec: BackboneSpec, cfg: Mapping[str, Any]) -> Objective:
  """Returns a pretraining task.

  Args:
    spec: of the backbone to pretrain.
    cfg: fields of `config.objective`; 'name' chooses the class.

  Raises:
    ValueError: there is no such objective.
  """
  if cfg["name"] not in OBJECTIVES:
    raise ValueError(
      f"objective.name is {cfg['name']!r}; expected one of"
      f" {', '.join(sorted(OBJECTIVES))}"
    )
  return OBJECTIVES[cfg["name"]](spec, cfg)
