"""The paper's study: eleven models, four tasks, its data and weights.

python -m forecasting.study --config=configs/study_paper.py \
  --config.weights=WEIGHTS --config.data.pixels=SCANNET \
  --config.data.depth=SCANNET --config.data.boxes=WAYMO \
  --config.data.points=MOVI,PERCEPTION_TEST

`--dry_run` prints one command a cell, to be spread over slices; `:smoke` runs
tiny backbones on embedded clips. Models without public weights are left out by
`--config.models`.
"""

from forecasting.study import config as study_config

get_config = study_config.paper_study("study_paper")
