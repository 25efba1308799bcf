"""Every forecaster and every baseline side by side, on points and boxes.

python -m forecasting.main --config=configs/4ds_tiny_forecasters.py

Data and length of training are those of `configs/study_forecaster.py`, whose
clips, latents and readouts it may share: --config.data.root, latents.root and
readout.from_run.
"""

from forecasting import config
from forecasting.study import config as study_config

get_config = config.experiment(
  "4ds_tiny",
  ("points", "boxes"),
  name="4ds_tiny_forecasters",
  overrides={
    **study_config.FORECASTER_CELL,
    "forecasters": (
      "flow",
      "shortcut",
      "energy",
      "best_of_many",
      "ddpm",
      "masked",
      "regression",
    ),
    "baselines": (
      "persistence_latent",
      "persistence_output",
      "constant_velocity",
      "linear_latent",
      "ridge_latent",
      "analogue",
      "climatology",
      "oracle_future",
    ),
  },
)
