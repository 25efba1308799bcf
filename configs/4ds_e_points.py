"""4DS-e: forecasting points on MOVi-E, scored on the Perception Test.

python -m forecasting.main --config=configs/4ds_e_points.py

The paper, Table 6: Average Jaccard 0.58, best of 10 0.61,
perception 0.83. Table 2: Fréchet distance 0.68e-3.
"""

from forecasting import config

get_config = config.paper_experiment("4ds_e", "points")
