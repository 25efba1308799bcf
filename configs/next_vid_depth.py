"""NExT-Vid L: forecasting depth on ScanNet.

python -m forecasting.main --config=configs/next_vid_depth.py

Not in the paper: NExT-Vid (arXiv 2512.21004) came later.
"""

from forecasting import config

get_config = config.paper_experiment("next_vid", "depth")
