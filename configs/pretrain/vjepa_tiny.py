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
    # paper hides more, in two ways; here, large blocks hide bodies whole, and
    # what cannot be foreseen is forgotten: over 1,000 steps the targets' spread
    # fell from 0.7 to 0.3. With small ones, and a slow average, it keeps 0.6.
    "maskings": ({"blocks": 8, "area": 0.06, "visible": 0.6},),
    "aspect": (0.75, 1.5),
    "width": 48,  # of the predictor
    "depth": 3,
    "heads": 2,
    "flip": True,
  },
  {
    "ema_decay": 0.9995,
    "optimizer.learning_rate": 5e-4,
    "train.batch_size": 8,
    "steps": 4000,
  },
)
