"""DINOv2 L/14: forecasting points on MOVi-E, scored on the Perception Test.

python -m forecasting.main --config=configs/dinov2_points.py

The paper, Table 6: Average Jaccard 0.28, best of 10 0.39,
perception 0.49. Table 2: Fréchet distance 1.9e-3.
"""

from forecasting import config

get_config = config.paper_experiment("dinov2", "points")
