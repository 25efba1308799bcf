"""Forecasting points with the shipped 4ds_tiny on the embedded data.

python -m forecasting.main --config=configs/4ds_tiny_points.py
"""

from forecasting import config

get_config = config.experiment("4ds_tiny", "points")
