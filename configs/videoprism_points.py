"""VideoPrism giant: points, trained on MOVi-E, scored on Perception Test.

python -m forecasting.main --config=configs/videoprism_points.py

The paper, Table 6: Average Jaccard 0.54, best of 10 0.61,
perception 0.74. Table 2: Fréchet distance 0.8e-3.
"""

from forecasting import config

get_config = config.paper_experiment("videoprism", "points")
