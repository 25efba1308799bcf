"""Which cells a study reports on, while other hosts run theirs."""

import importlib.util
from concurrent import futures
from pathlib import Path

import pytest

from forecasting.frames.one_writer import one_writer
from forecasting.study import __main__ as study
from forecasting.study import queue as run_queue

PATH = Path(__file__).parents[2] / "configs" / "study_tiny.py"


@pytest.fixture
def reported(monkeypatch):
  """The arguments of every report that would have been written."""
  calls = []

  def write_comparison(*args):
    calls.append(args)
    return Path("report.html")

  monkeypatch.setattr(study.page, "write_comparison", write_comparison)
  return calls


def _config(*only, flags=()):
  spec = importlib.util.spec_from_file_location("config_file", PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  cfg = module.get_config("smoke")
  cfg.only, cfg.flags = only, flags
  return cfg


def _finish(cfg, workdir):
  """Marks the chosen cells as finished."""
  for run in study.plan(cfg, f"{PATH}:smoke", workdir):
    run_queue._mark_started(run)
    run_queue._mark_done(run)


def _names(folders):
  return sorted(folder.name for folder in folders)


def test_the_last_report_knows_all_that_is_finished(tmp_path, reported):
  """Two hosts report at one time; the second waits, and looks again."""
  _finish(_config("raw_tiny-0"), tmp_path)
  with futures.ThreadPoolExecutor() as pool:
    with one_writer(tmp_path, "the report"):
      waiting = pool.submit(study.report, _config(), f"{PATH}:smoke", tmp_path)
      with pytest.raises(futures.TimeoutError):
        waiting.result(0.3)
      _finish(_config("4ds_tiny_random-0"), tmp_path)
    waiting.result(60)
  ((folders, _, notes),) = reported
  assert _names(folders) == ["4ds_tiny_random-0", "raw_tiny-0"]
  assert not any("otherwise" in note for note in notes)


def test_reports_leave_out_cells_of_other_settings(tmp_path, reported, capsys):
  _finish(_config("raw_tiny-0"), tmp_path)
  cfg = _config("4ds_tiny_random-0", flags=("--config.forecaster.steps=7",))
  assert study.report(cfg, f"{PATH}:smoke", tmp_path) is None
  different = (
    "raw_tiny-0 was run otherwise:\n  forecaster.steps: 6 there, 7 now"
  )
  assert different in capsys.readouterr().out
  _finish(cfg, tmp_path)
  assert study.report(cfg, f"{PATH}:smoke", tmp_path)
  ((folders, _, notes),) = reported
  assert _names(folders) == ["4ds_tiny_random-0"]
  assert any(different in note for note in notes)
  cfg.only = ("raw_tiny-0",)
  with pytest.raises(ValueError, match=r"forecaster\.steps: 6 there, 7 now"):
    study.run(cfg, f"{PATH}:smoke", tmp_path)


def test_weights_may_move_between_runs_but_not_change(tmp_path):
  """As those found with --config.weights after a first run without."""
  shipped = PATH.parents[1] / "forecasting" / "backbones" / "released"
  file = tmp_path / "4ds_tiny.safetensors"
  file.write_bytes((shipped / file.name).read_bytes())
  cfg = _config("4ds_tiny-0")
  _finish(cfg, tmp_path)
  cfg.weights = str(tmp_path)
  (run,) = study.plan(cfg, f"{PATH}:smoke", tmp_path)
  assert any(str(file) in flag for flag in run.command)
  assert run_queue.is_done(run)
  file.write_bytes(b"others")
  with pytest.raises(ValueError, match=r"weights: .* there, .* now"):
    run_queue.is_done(run)
