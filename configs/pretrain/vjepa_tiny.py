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
    # what cannot be foreseen is forgotten. Half of the slots are shown: of what
    # comes next, motion can be learned.
    "maskings": ({"blocks": 1, "area": 0.2, "visible": 0.75, "slots": 4},),
    "aspect": (0.75, 1.5),
    "visible_weight": 0.5,
    "width": 48,  # of the predictor
    "depth": 3,
    "heads": 2,
    "flip": True,
  },
  {
    # A target that follows faster forgets with its encoder.
    "ema_decay": 0.9995,
    "ema_warm_up": False,
    "train.batch_size": 8,
    "steps": 6000,
  },
)
