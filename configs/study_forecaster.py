"""What the forecaster's defaults are set by: one setting changed at a time.

python -m forecasting.study --config=configs/study_forecaster.py

`flow` on the latents of 4ds_tiny, points and boxes, three seeds, as long a
training as the quickstart's; one set of readouts a seed. The report tells every
setting by its distance to the first: the tiny presets as they were before, with
x0 as the network's output. Samplers need no training: `forecasting.eval` with
other fields of `forecaster.sampler` scores them on a cell's network.

Source: forecaster.md 10, the order of the first study.
"""

from forecasting.study import config as study_config

get_config = study_config.settings_study(
  "study_forecaster",
  "4ds_tiny",
  {
    "reference": {},
    "no_layernorm": {"backbone.layernorm": False},
    "target_plain": {"forecaster.normalize.target_transform": "none"},
    "target_linear": {
      "forecaster.normalize.target_transform": "residual_linear"
    },
    "predict_v": {"forecaster.flow.prediction": "v"},
    "predict_v_wide_head": {
      "forecaster.flow.prediction": "v",
      "forecaster.model.head_width": -1,
    },
    "predict_edm": {"forecaster.flow.prediction": "edm"},
    "shift_1": {"forecaster.flow.shift": "1.0"},
    "shift_auto_slot": {"forecaster.flow.shift": "auto_slot"},
    "joint_full": {"forecaster.model.conditioning": "joint_full"},
    "cross": {"forecaster.model.conditioning": "cross"},
    "factorized": {"forecaster.model.attention": "factorized"},
    "pca_48": {"forecaster.compress": "pca(48)"},
  },
  tasks=("points", "boxes"),
  overrides={
    **study_config.FORECASTER_CELL,
    "forecasters": ("flow",),
    "forecaster.flow.prediction": "x0",
  },
  smoke=study_config.SMOKE_CELL,
)
