"""The diagnosis printed before any training."""

import numpy as np
import pytest

from forecasting import diagnose
from forecasting.config import base_config, forecaster_config


def test_samplers_are_compared_with_the_documented_shares():
  cfg = forecaster_config().sampler
  cfg.update(name="euler", grid="shifted", shift=22.9, steps=50)
  lines = diagnose.sampler_report(cfg).splitlines()
  own, others = lines[4], lines[5:]
  # Source of the shares: the table of samplers for exact denoisers.
  assert own.startswith("yours: euler, shifted 22.9, 50")
  assert own.split()[-5:] == ["50", "0.11", "0.52", "0.82", "0.93"]
  expected = {
    "dpmpp_2m, logsnr, 16": ["16", "1.01", "1.03", "1.03", "1.03"],
    "heun, logsnr, 16": ["31", "1.07", "1.04", "1.00", "0.97"],
    "euler, logsnr, 64": ["64", "0.95", "0.96", "0.96", "0.96"],
    "euler, uniform, 50": ["50", "0.84", "0.96", "0.98", "0.96"],
    "euler, shifted 6.9, 50": ["50", "0.33", "0.82", "0.94", "0.97"],
    "ancestral, shifted 22.9, 50": ["50", "0.11", "0.49", "0.74", "0.87"],
  }
  for line, (title, cells) in zip(others, expected.items(), strict=True):
    assert line.startswith(title)
    assert [float(x) for x in line.split()[-5:]] == pytest.approx(
      [float(x) for x in cells], abs=0.0101
    )


def test_calls_at_levels_that_training_hardly_draws_are_counted():
  config = base_config()
  config.backbone.name = "4ds_e"
  config.forecaster.sampler.steps = 16
  text = diagnose.levels_report(config)
  # sqrt(196 x 1792 / 4096) = 9.26; 3.09 deviations below log(9.26) lies the
  # level 0.30, below which 8 of the grid's 16 levels are.
  levels = 1 / (1 + np.exp(np.linspace(-6.2126, 5.2933, 16)))
  rare = int((levels < 1 / (1 + np.exp(3.0902 - np.log(9.26)))).sum())
  assert f"shifted by 9.26: {rare} of 16 calls" in text
  assert 5 < rare < 10 and "'edm'" in text
  config.forecaster.flow.update(shift="0.05", prediction="v")
  assert "shifted by 0.05: 0 of 16" in diagnose.levels_report(config)
