"""Pretrains dinov2_tiny by self-distillation of single frames.

python -m forecasting.pretrain --config=configs/pretrain/dinov2_tiny.py \
  --workdir=runs/pretrain_dinov2_tiny
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "dinov2_tiny",
  {
    "name": "self_distillation",
    "frames": 4,  # of each clip
    "large_scale": (0.4, 1.0),
    "small_views": 2,
    "small_size": 32,
    "small_scale": (0.1, 0.4),
    "mask_fraction": (0.1, 0.5),  # of the patches of half of the large views
    "hidden": 192,
    "bottleneck": 48,
    "prototypes": 512,
    "student_temperature": 0.1,
    "teacher_temperature": 0.05,
    "patch_weight": 1.0,
    "even_weight": 0.1,
  },
  {"ema_decay": 0.995, "optimizer.learning_rate": 1e-3},
)
