"""Where missing variance goes."""

import pytest

from forecasting import calibration
from forecasting.config import base_config, experiment
from forecasting.forecaster import diagnose


def _row(calls, **scores):
  return {
    "calls_per_sample": calls,
    "scores": {name: {"value": value} for name, value in scores.items()},
  }


@pytest.fixture(name="found")
def fixture_found():
  truth = {"truth_var_time": 8.0, "truth_var_gauss": 10.0}
  oracle = _row(0, var_time=4.0, var_gauss=9.0, **truth)
  reference = _row(
    255, var_time=3.0, var_gauss=9.0, spread=2.0, energy_score=1.0
  )
  default = _row(16, var_time=1.5, var_gauss=8.1, spread=1.0, energy_score=1.25)
  return calibration.decompose(oracle, reference, default)


def test_gaps_multiply_to_the_whole(found):
  gaps = found["gaps"]["var_time"]
  assert gaps == {
    "readout": 0.5,
    "forecaster": 0.75,
    "sampler": 0.5,
    "all": 0.1875,
  }
  whole = found["gaps"]["var_gauss"]
  product = whole["readout"] * whole["forecaster"] * whole["sampler"]
  assert product == pytest.approx(whole["all"]) == pytest.approx(0.81)
  assert found["gaps"]["spread"] == {"sampler": 0.5}


def test_report_names_every_part(found):
  text = calibration.report({"boxes": found})
  lines = [line.split() for line in text.splitlines()]
  assert ["boxes", "var_time", "0.500", "0.750", "0.500", "0.188"] in lines
  assert ["boxes", "spread", "–", "–", "0.500", "–"] in lines
  assert "1.25 with 16 calls, 1 with 255" in text


@pytest.mark.parametrize(
  "config", [base_config(), experiment("4ds_tiny", ("boxes",))()]
)
def test_reference_takes_255_calls_and_keeps_all_spread(config):
  config.forecaster.sampler.update(guidance=0.5, chunk=3, t_max=0.9, eta=0.1)
  other = calibration.with_reference_sampler(config)
  sampler = other.forecaster.sampler
  assert diagnose.num_calls(sampler) == 255
  for share in diagnose.spread_table(sampler).values():
    assert share == pytest.approx(1.0, abs=0.005)
  assert (sampler.guidance, sampler.chunk) == (0.5, 3)
  assert config.forecaster.sampler.name == "dpmpp_2m"


def test_a_run_without_flow_is_refused(tmp_path):
  config = base_config()
  config.forecasters = ("regression",)
  with pytest.raises(ValueError, match="'flow'"):
    calibration.measure(config, tmp_path)
