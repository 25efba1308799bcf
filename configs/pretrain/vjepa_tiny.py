"""Pretrains vjepa_tiny by predicting features of embedded clips.

python -m forecasting.pretrain --config=configs/pretrain/vjepa_tiny.py \
  --workdir=runs/pretrain_vjepa_tiny
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "vjepa_tiny",
  {
    "name": "feature_prediction",
    # 'visible' is the share of places that stays, the same in every clip. The
    # paper hides more, in two ways; of 64 places, that leaves too few to see
    # bodies by.
    "maskings": ({"blocks": 2, "area": 0.25, "visible": 0.5},),
    "aspect": (0.75, 1.5),
    "width": 48,  # of the predictor
    "depth": 3,
    "heads": 2,
    "flip": True,
  },
  {
    "ema_decay": 0.998,
    "optimizer.learning_rate": 1e-3,
    "train.batch_size": 8,
    "steps": 4000,
  },
)
