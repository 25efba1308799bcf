"""Runs whose forecasts go beyond the frames of training, from end to end."""

import json

import pytest
import tiny_run

from forecasting import calibration
from forecasting.report import results

FIELDS = {
  "data.train_clips": 8,
  "data.eval_clips": 4,
  "data.future_contexts": 0,
  "data.horizon_frames": 28,
  "data.horizon_clips": 2,
  "forecasters": '("flow","masked")',
  "baselines": '("persistence_latent","climatology","oracle_future")',
  "forecaster.model.width": 16,
  "forecaster.model.heads": 1,
  "forecaster.compress": "pca(8)",
  "forecaster.normalize.target_transform": "residual_linear",
  "forecaster.flow.context_noise": 0.2,
  "forecaster.horizon.context_level": 0.1,
  "readout.steps": 2,
  "forecaster.steps": 2,
  "train.log_every": 1,
  "train.checkpoint_every": 2,
  "eval.num_samples": 2,
}


@pytest.mark.slow
def test_rows_tell_of_longer_clips_and_of_missing_variance(tmp_path):
  ran = tiny_run.run(tiny_run.command("main", tmp_path, FIELDS))
  assert ran.returncode == 0, ran.stderr[-2000:]
  rows = results.read_rows(tmp_path / "results.jsonl")
  rows = {row["forecaster"]: row for row in rows}
  assert len(rows) == 5
  # It draws from training clips, which are shorter.
  assert "horizon" not in rows.pop("climatology")
  for row in rows.values():
    assert row["frames"] == "4..15" and row["horizon"]["frames"] == "4..27"
    for name in ("metric_per_lead", "energy_score_per_lead", "crps_per_lead"):
      assert len(row[name]) == 12 and len(row["horizon"][name]) == 24
    assert row["horizon"]["num_examples"] == 2
  flow = rows["flow"]
  assert len(flow["horizon"]["spread_skill_per_lead"]) == 24
  assert flow["horizon"]["calls_per_sample"] == 2 * flow["calls_per_sample"]
  short = {**FIELDS, "data.eval_clips": 2}
  command = tiny_run.command(
    "diagnose", tmp_path, short, flags=("calibration",)
  )
  ran = tiny_run.run(command)
  assert ran.returncode == 0, ran.stderr[-2000:]
  found = json.loads((tmp_path / calibration.FILE_NAME).read_text())["boxes"]
  assert found["calls"] == [255, flow["calls_per_sample"]]
  assert "energy score" in ran.stdout and "forecaster" in ran.stdout
