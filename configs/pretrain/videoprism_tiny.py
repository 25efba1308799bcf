"""Pretrains videoprism_tiny, second stage: masked distillation of the first.

python -m forecasting.pretrain --config=configs/pretrain/videoprism_tiny.py \
  --workdir=runs/pretrain_videoprism_tiny

after the first stage, whose weights `objective.teacher` names; None, as in
`:smoke`, for random ones.
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "videoprism_tiny",
  {
    "name": "masked_distillation",
    "teacher": "runs/pretrain_videoprism_tiny_text/videoprism_tiny.safetensors",
    "mask_fraction": 0.65,
    "width": 96,  # of the decoder
    "depth": 2,
    "heads": 2,
    "mean_weight": 1.0,
    "flip": True,
  },
  {"optimizer.learning_rate": 1e-3, "steps": 3000},
  smoke={"objective.teacher": None},
)
