"""The paper's study with tiny backbones on embedded data.

python -m forecasting.study --config=configs/study_tiny.py

Nine families and raw patches; four tasks; three seeds; diffusion and
regression. The same networks with random weights: two of them forecast too, of
the others readouts alone say what they perceive. With `:smoke` behind the file
name: five models, one seed, a few steps on a few clips.
"""

from forecasting.study import config as study_config

get_config = study_config.study(
  "study_tiny",
  (
    "4ds_tiny",
    "videomae_tiny",
    "videomaev2_tiny",
    "vjepa_tiny",
    "next_vid_tiny",
    "videoprism_tiny",
    "walt_tiny",
    "dinov2_tiny",
    "siglip_tiny",
    "raw_tiny",
  ),
  random=("4ds_tiny", "next_vid_tiny"),
  random_readouts=(
    "videomae_tiny",
    "videomaev2_tiny",
    "vjepa_tiny",
    "videoprism_tiny",
    "walt_tiny",
    "dinov2_tiny",
    "siglip_tiny",
  ),
  overrides=study_config.TINY_CELL,
  smoke=study_config.SMOKE_CELL,
  smoke_models=(
    "4ds_tiny",
    "dinov2_tiny",
    "siglip_tiny",
    "4ds_tiny_random",
    "raw_tiny",
  ),
)
