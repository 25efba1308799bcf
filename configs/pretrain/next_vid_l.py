"""NExT-Vid's published recipe for next_vid_l, on a folder of videos.

python -m forecasting.pretrain --config=configs/pretrain/next_vid_l.py \
  --config.data.path=VIDEOS --workdir=runs/pretrain_next_vid_l

`pretrain_config.next_vid` says what differs from the paper.
"""

from forecasting import pretrain_config

get_config = pretrain_config.next_vid("next_vid_l")
