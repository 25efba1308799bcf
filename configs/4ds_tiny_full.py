"""All four tasks with 4ds_tiny, trained long enough to tell methods apart.

python -m forecasting.main --config=configs/4ds_tiny_full.py

The quickstart with half as many clips again to train on, twice as many to
score, and several times the training: about an hour on 2 CPU cores.
"""

from forecasting import config

get_config = config.experiment(
  "4ds_tiny",
  config.TASK_NAMES,
  name="4ds_tiny_full",
  overrides={
    "data.train_clips": 3072,
    "data.eval_clips": 512,
    "data.future_contexts": 64,
    "readout.steps": 2500,
    "readout.ema_decay": 0.995,
    "readout.train_tracks": 16,
    # Those of the run in the README.
    "data.held_out_clips": 0,
    "forecaster.flow.prediction": "x0",
    "forecaster.flow.shift": "auto_slot",
    "readout.certain_within": 6.0,
    "forecaster.steps": 4000,
    "forecaster.ema_decay": 0.998,
    "train.batch_size": 16,
  },
)
