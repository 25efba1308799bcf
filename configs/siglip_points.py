"""SigLIP G-opt/14: forecasting points on MOVi-E, scored on the Perception Test.

python -m forecasting.main --config=configs/siglip_points.py

The paper, Table 6: Average Jaccard 0.37, best of 10 0.42,
perception 0.31. Table 2: Fréchet distance 3.0e-3.
"""

from forecasting import config

get_config = config.paper_experiment("siglip", "points")
