"""What a run is put together from."""

import numpy as np
import pytest
import tiny_run

from forecasting import config as config_lib
from forecasting.experiment import Experiment
from forecasting.forecaster.base import LatentSpec
from forecasting.latents import normalize
from forecasting.latents.store import LatentStore


@pytest.mark.parametrize(
  ("number", "rows"), [(4, [0, 5, 10, 15]), (99, range(16))]
)
def test_baselines_are_fitted_to_as_many_clips_as_the_config_says(
  tmp_path, number, rows
):
  tiny_run.write_latents(tmp_path)
  store = LatentStore(tmp_path / "train")
  config = config_lib.experiment("4ds_tiny", "boxes")("smoke")
  config.eval.bank_clips = number
  stats = normalize.compute_stats(store)
  run = Experiment(config, {"train": store}, LatentSpec(2, 6, 2, 2, 8), stats)
  bank = run._bank()
  for part, values in bank.items():
    assert len(values) == len(rows), part
  for place, row in enumerate(rows):
    clip = store[row]
    np.testing.assert_array_equal(bank["context"][place], clip["context"])
    np.testing.assert_array_equal(bank["future"][place], clip["clip"][2:])
