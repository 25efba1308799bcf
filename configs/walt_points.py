"""W.A.L.T. 419M: forecasting points on MOVi-E, scored on the Perception Test.

python -m forecasting.main --config=configs/walt_points.py

The paper, Table 6: Average Jaccard 0.64, best of 10 0.68,
perception 0.76. Table 2: Fréchet distance 1.34e-3.
"""

from forecasting import config

get_config = config.paper_experiment("walt", "points")
