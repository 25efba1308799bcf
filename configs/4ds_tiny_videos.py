r"""Pixels of your own videos: any folder of mp4, webm, mkv or avi files.

python -m forecasting.main --config=configs/4ds_tiny_videos.py \
  --config.data.path=FOLDER

`launch/fetch_sample_videos.sh FOLDER` fetches four short clips to try it on.
"""

from forecasting import config

get_config = config.experiment(
  "4ds_tiny",
  "pixels",
  name="4ds_tiny_videos",
  # Few clips: readouts are as sure of those held out of a file as of the rest.
  overrides={"data.name": "videos", "data.held_out_clips": 0},
)
