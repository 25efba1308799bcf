"""Pretrains videoprism_tiny, first stage: embedded clips and their captions.

python -m forecasting.pretrain \
  --config=configs/pretrain/videoprism_tiny_text.py \
  --workdir=runs/pretrain_videoprism_tiny_text
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "videoprism_tiny",
  {"name": "video_text", "text_width": 96},
  {"train.batch_size": 32, "optimizer.learning_rate": 1e-3, "steps": 3000},
  name="pretrain_videoprism_tiny_text",
)
