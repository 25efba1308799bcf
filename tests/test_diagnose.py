"""The diagnosis printed before any training."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import tiny_run

from forecasting import diagnose, trial_build
from forecasting.config import base_config

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.py"
# Source: the table of forecaster.md 6.1; Heun's jump to zero takes one call.
DOCUMENTED = {
  "dpmpp_2m, logsnr, 16": ["16", "0.005", "1.01", "1.03", "1.03", "1.03"],
  "dpmpp_2m, logsnr, 10": ["10", "0.005", "0.98", "1.03", "1.04", "1.05"],
  "dpmpp_2m, logsnr, 32": ["32", "0.005", "1.00", "1.01", "1.01", "1.01"],
  "heun, logsnr, 16": ["31", "0.005", "1.07", "1.04", "1.00", "0.97"],
  "euler, logsnr, 64": ["64", "0.005", "0.95", "0.96", "0.96", "0.96"],
  "euler, uniform, 50": ["50", "0.02", "0.84", "0.96", "0.98", "0.96"],
  "euler, shifted 6.9, 50": ["50", "0.123", "0.33", "0.82", "0.94", "0.97"],
  "euler, shifted 22.9, 50": ["50", "0.318", "0.11", "0.52", "0.82", "0.93"],
  "heun, shifted 22.9, 50": ["99", "0.318", "0.11", "0.55", "0.90", "0.98"],
  "ancestral, shifted 22.9, 50": [
    *("50", "0.318"),
    *("0.11", "0.49", "0.74", "0.87"),
  ],
}


def _quickstart():
  return runpy.run_path(str(QUICKSTART))["get_config"]()


def _rows(config):
  """Returns the table: titles to numbers."""
  lines = diagnose.sampler_report(config).splitlines()[5:]
  return {" ".join(words[:-6]): words[-6:] for words in map(str.split, lines)}


def test_samplers_are_compared_with_the_documented_shares():
  rows = _rows(_quickstart())
  # The config's own end of the grid is its own row's alone.
  own = rows.pop("yours: flow, dpmpp_2m, logsnr, 10")
  assert own[:2] == ["10", "0.1"] and float(own[2]) < 0.5
  assert list(rows) == list(DOCUMENTED)
  for title, cells in DOCUMENTED.items():
    assert rows[title][:2] == cells[:2], title
    assert [float(x) for x in rows[title][2:]] == pytest.approx(
      [float(x) for x in cells[2:]], abs=0.0101
    ), title


def test_own_sampler_is_that_of_the_config():
  config = _quickstart()
  config.forecaster.sampler.update(
    name="euler", grid="shifted", shift=22.9, steps=50
  )
  own = _rows(config)["yours: flow, euler, shifted 22.9, 50"]
  assert own == DOCUMENTED["euler, shifted 22.9, 50"]


def test_ddpm_has_a_sampler_of_its_own():
  config = _quickstart()
  config.forecasters = ("ddpm", "regression")
  config.forecaster.ddpm.steps = 25
  rows = _rows(config)
  # Products of the gains of 25 DDIM steps between every 41.6th of the levels.
  assert rows["yours: ddpm, ddim, cosine, 25"] == [
    *("25", "0.000785"),
    *("0.58", "0.91", "0.95", "0.92"),
  ]
  assert not any("flow" in title for title in rows)
  levels = diagnose.levels_report(config)
  assert "1000 levels" in levels and "shifted by" not in levels
  config.forecasters = ("regression",)
  assert len(_rows(config)) == len(DOCUMENTED)
  assert "no sampler" in diagnose.levels_report(config)


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


@pytest.mark.parametrize(
  ("compress", "is_elsewhere", "size"),
  [
    ("pca(7)", False, 14 * 14 * 7),
    ("vae(9)", True, 2 * 2 * 9),
    ("none", True, 2 * 2 * 8),
  ],
)
def test_levels_are_those_of_what_is_forecast(
  tmp_path, compress, is_elsewhere, size
):
  config = base_config()
  config.backbone.name = "4ds_e"
  config.forecaster.compress = compress
  if is_elsewhere:
    tiny_run.write_latents(tmp_path)
    config.latents.path = str(tmp_path)
  shift = (size / 4096) ** 0.5
  assert f"shifted by {shift:.3g}:" in diagnose.levels_report(config)
  found = trial_build.latent_spec(config)
  assert found.tc == 2 and found.tf == 6
