"""All four tasks with 4ds_tiny, trained long enough to tell methods apart.

python -m forecasting.main --config=configs/4ds_tiny_full.py

The quickstart with four times as many clips to train on, twice as many to
score, and several times the training: about an hour on 2 CPU cores.
"""

from forecasting import config

get_config = config.experiment(
  "4ds_tiny",
  config.TASK_NAMES,
  name="4ds_tiny_full",
  overrides={
    # Six epochs. From the quickstart's 2,048 clips forecasters learn nothing
    # after nine that holds for others.
    "data.train_clips": 8384,
    "data.held_out_clips": 192,
    "eval.spread_clips": 128,
    "data.eval_clips": 512,
    "data.future_contexts": 64,
    "readout.steps": 2200,
    "readout.ema_decay": 0.995,
    "readout.train_tracks": 16,
    "forecaster.steps": 3000,
    "forecaster.ema_decay": 0.998,
    "train.batch_size": 16,
  },
)
