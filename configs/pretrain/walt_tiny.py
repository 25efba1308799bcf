"""Pretrains walt_tiny: diffusion of the latents of its frozen tokenizer.

python -m forecasting.pretrain --config=configs/pretrain/walt_tiny.py \
  --workdir=runs/pretrain_walt_tiny

after the tokenizer, whose weights `objective.tokenizer` names; None, as in
`:smoke`, for random ones.
"""

from forecasting import pretrain_config

get_config = pretrain_config.pretraining(
  "walt_tiny",
  {
    "name": "video_diffusion",
    "tokenizer": "runs/pretrain_walt_tiny_tokenizer/walt_tiny.safetensors",
    "self_conditioning": 0.5,  # probability; the paper's is 0.9
    "past_probability": 0.5,
    "null_probability": 0.1,
  },
  {"optimizer.learning_rate": 1e-3, "train.batch_size": 8, "steps": 3000},
  smoke={"objective.tokenizer": None},
)
