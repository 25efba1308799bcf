"""Pretrains next_vid_tiny by masked next-frame prediction of embedded clips.

python -m forecasting.pretrain --config=configs/pretrain/next_vid_tiny.py \
  --workdir=runs/pretrain_next_vid_tiny
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "next_vid_tiny",
  {
    "name": "next_frame",
    # What the encoder sees: blocks are removed from all slots; 'visible' is
    # the share of places that stays, the same in every clip. The paper hides
    # more; of 64 places, that leaves too few to see bodies by.
    "maskings": ({"blocks": 2, "area": 0.25, "visible": 0.5},),
    "aspect": (0.75, 1.5),
    "width": 96,  # of predictor and decoder
    "depth": 2,
    "heads": 2,
    "times": 1,  # of the flow, for each slot
    "align_weight": 1.0,
    "flow_weight": 0.5,
    "normalize_target": False,
    "flip": True,
  },
  {"train.batch_size": 8, "steps": 4000},
)
