"""All four tasks with 4ds_tiny, trained long enough to tell methods apart.

python -m forecasting.main --config=configs/4ds_tiny_full.py

The quickstart with three times the data, a wider forecaster and several times
the training: about an hour on 2 CPU cores.
"""

from forecasting import config

get_config = config.experiment(
  "4ds_tiny",
  config.TASK_NAMES,
  name="4ds_tiny_full",
  overrides={
    "data.train_clips": 3072,
    "readout.steps": 2000,
    "readout.ema_decay": 0.995,
    "forecaster.model.width": 192,
    "forecaster.steps": 2000,
    "forecaster.sampler.steps": 16,
    "train.batch_size": 16,
  },
)
