"""4DS-h: forecasting points on MOVi-E, scored on the Perception Test.

python -m forecasting.main --config=configs/4ds_h_points.py

The paper, Table 6: Average Jaccard 0.4, best of 10 0.58,
perception 0.82. Table 2: Fréchet distance 7.88e-3.
"""

from forecasting import config

get_config = config.paper_experiment("4ds_h", "points")
