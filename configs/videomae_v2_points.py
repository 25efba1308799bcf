"""VideoMAEv2 g: forecasting points on MOVi-E, scored on the Perception Test.

python -m forecasting.main --config=configs/videomae_v2_points.py

The paper, Table 6: Average Jaccard 0.56, best of 10 0.61,
perception 0.73. Table 2: Fréchet distance 0.74e-3.
"""

from forecasting import config

get_config = config.paper_experiment("videomae_v2", "points")
