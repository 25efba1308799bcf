"""N-W.A.L.T.: forecasting points on MOVi-E, scored on the Perception Test.

python -m forecasting.main --config=configs/n_walt_points.py

The paper, Table 6: Average Jaccard 0.5, best of 10 0.53,
perception 0.76. Table 2: Fréchet distance 1.3e-3.
"""

from forecasting import config

get_config = config.paper_experiment("n_walt", "points")
