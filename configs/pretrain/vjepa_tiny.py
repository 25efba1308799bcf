"""Pretrains vjepa_tiny by predicting features of embedded clips.

python -m forecasting.pretrain --config=configs/pretrain/vjepa_tiny.py \
  --workdir=runs/pretrain_vjepa_tiny
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "vjepa_tiny",
  {
    "name": "feature_prediction",
    # 'visible' is the share of places that stays, the same in every clip.
    "maskings": (
      {"blocks": 8, "area": 0.15, "visible": 0.25},
      {"blocks": 2, "area": 0.7, "visible": 0.125},
    ),
    "aspect": (0.75, 1.5),
    "width": 48,  # of the predictor
    "depth": 3,
    "heads": 2,
    "flip": True,
  },
  {"ema_decay": 0.998, "optimizer.learning_rate": 1e-3},
)
