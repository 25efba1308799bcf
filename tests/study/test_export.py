"""What is kept of a study's cells elsewhere."""

import json

import pytest
import test_reports

from forecasting.report import page
from forecasting.study import __main__ as study
from forecasting.study import export
from forecasting.study import queue as run_queue

ROW = {
  "name": "a",
  "backbone": "raw_tiny",
  "task": "boxes",
  "seed": 0,
  "forecaster": "flow",
  "metric": "iou",
  "higher_is_better": True,
  "num_examples": 2,
  "num_samples": 2,
  "num_excluded": 0,
  "scores": {},
}


@pytest.fixture(name="workdir")
def fixture_workdir(tmp_path):
  workdir = tmp_path / "here" / "study_tiny_smoke"
  cfg = test_reports._config("raw_tiny-0", "4ds_tiny_random-0")
  test_reports._finish(cfg, workdir)
  for cell in (workdir / "cells").iterdir():
    (cell / "results.jsonl").write_text(json.dumps(ROW) + "\n")
    (cell / "config.json").write_text(
      json.dumps({"data": {"root": str(workdir / "data")}})
    )
    (cell / "checkpoints").mkdir()
  (workdir / "cells" / "4ds_tiny_random-0" / run_queue.DONE).unlink()
  return workdir


def test_a_study_goes_on_from_what_was_exported(workdir, tmp_path):
  there = tmp_path / "there"
  assert export.export(workdir, there) == ["raw_tiny-0"]
  files = sorted(p.name for p in (there / "cells" / "raw_tiny-0").iterdir())
  assert files == ["config.json", "results.jsonl", run_queue.DONE]
  for file in (there / "cells" / "raw_tiny-0").iterdir():
    assert str(tmp_path) not in file.read_text()
  cfg = test_reports._config("raw_tiny-0")
  (run,) = study.plan(cfg, f"{test_reports.PATH}:smoke", there)
  assert run_queue.is_done(run)
  cfg.flags = ("--config.forecaster.steps=7",)
  (run,) = study.plan(cfg, f"{test_reports.PATH}:smoke", there)
  with pytest.raises(ValueError, match="6 there, 7 now"):
    run_queue.is_done(run)


def test_a_report_can_be_drawn_from_what_was_exported(workdir, tmp_path):
  export.export(workdir, tmp_path / "there")
  cells = list((tmp_path / "there" / "cells").iterdir())
  assert page.write_comparison(cells, tmp_path / "report").exists()


def test_what_cannot_be_exported_is_named(workdir, tmp_path):
  with pytest.raises(FileNotFoundError, match="no finished cell"):
    export.export(tmp_path / "nowhere", tmp_path / "there")
  (workdir / "cells" / "raw_tiny-0" / "results.jsonl").write_text("{")
  with pytest.raises(ValueError, match=r"raw_tiny-0/results.jsonl:1"):
    export.export(workdir, tmp_path / "there")
  assert not (tmp_path / "there").exists()
