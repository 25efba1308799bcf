"""V-JEPA L: forecasting points on MOVi-E, scored on the Perception Test.

python -m forecasting.main --config=configs/vjepa_points.py

The paper, Table 6: Average Jaccard 0.59, best of 10 0.63,
perception 0.79. Table 2: Fréchet distance 0.63e-3.
"""

from forecasting import config

get_config = config.paper_experiment("vjepa", "points")
