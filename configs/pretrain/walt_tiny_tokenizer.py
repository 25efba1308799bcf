"""Pretrains the tokenizer of walt_tiny on embedded clips.

python -m forecasting.pretrain \
  --config=configs/pretrain/walt_tiny_tokenizer.py \
  --workdir=runs/pretrain_walt_tiny_tokenizer
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "walt_tiny",
  {
    "name": "video_tokenizer",
    "width": 64,  # of the decoder
    "depth": 2,
    "moments_weight": 0.1,
    "flip": True,
  },
  {"steps": 1000, "train.batch_size": 8},
  name="pretrain_walt_tiny_tokenizer",
)
