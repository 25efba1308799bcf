"""The whole pipeline on the embedded data, on a laptop: all four tasks.

python -m forecasting.main --config=configs/quickstart.py

Generates simulated scenes, encodes them with the shipped `4ds_tiny`, trains
four readouts, the diffusion forecaster and its regression baseline, scores
them beside the trivial baselines and writes runs/quickstart/report.html.
"""

from forecasting import config

get_config = config.experiment(
  "4ds_tiny",
  config.TASK_NAMES,
  name="quickstart",
  # Beside the presets, twice as many clips to fit dressing's noise on, and half
  # as many again for the readouts' errors; as many to train on as there.
  overrides={
    "data.train_clips": 2240,
    "data.held_out_clips": 192,
    "eval.spread_clips": 128,
  },
)
