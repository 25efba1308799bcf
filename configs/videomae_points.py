"""VideoMAE H: forecasting points on MOVi-E, scored on the Perception Test.

python -m forecasting.main --config=configs/videomae_points.py

The paper, Table 6: Average Jaccard 0.6, best of 10 0.63,
perception 0.79. Table 2: Fréchet distance 0.55e-3.
"""

from forecasting import config

get_config = config.paper_experiment("videomae", "points")
