"""`metrics.jsonl` continues without gaps; the line tells rate and time."""

import importlib.util
import json
import sys

import pytest

from forecasting.training import log


def test_rows_after_the_restored_step_are_dropped(tmp_path):
  first = log.MetricsLog(tmp_path, 0)
  for step in (1, 2, 3, 4):
    first.write(step, "a", {"loss": step / 10})
  first.close()
  with (tmp_path / log.METRICS).open("a") as file:
    file.write('{"step": 5, "trai')  # killed while writing
  second = log.MetricsLog(tmp_path, 2)
  second.write(3, "a", {"loss": 0.3})
  second.close()
  rows = log.read_metrics(tmp_path / log.METRICS)
  assert [row["step"] for row in rows] == [1, 2, 3]
  assert rows[2] == {"step": 3, "trainee": "a", "loss": 0.3}


def test_non_finite_scalars_are_valid_json(tmp_path):
  writer = log.MetricsLog(tmp_path, 0)
  writer.write(1, "a", {"loss": 1.0, "psnr": float("inf")})
  writer.close()

  def refuse(constant):
    raise AssertionError(constant)

  text = (tmp_path / log.METRICS).read_text()
  assert json.loads(text, parse_constant=refuse)["psnr"] is None


@pytest.mark.skipif(
  importlib.util.find_spec("tensorflow") is not None, reason="extra installed"
)
def test_tensorboard_without_the_extra_names_it(tmp_path):
  with pytest.raises(ImportError, match=r"pip install 'forecasting\[tensorb"):
    log.MetricsLog(tmp_path, 0, tensorboard=True)


def test_progress_tells_rate_and_time_left(monkeypatch, capsys):
  now = [100.0]
  monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
  line = log.Progress(total=1010)
  line.update(11, {"a": 0.5})
  now[0] += 1.0
  line.update(12, {"a": 0.4})  # too soon for a plain line
  now[0] += 9.0
  line.update(31, {"a": 0.25})
  line.close()
  lines = capsys.readouterr().err.splitlines()
  # 20 steps in 10 s; 979 steps at 2 a second are 489.5 s.
  assert lines == [
    "train 11/1010 (1%), a 0.5",
    "train 31/1010 (3%), 2 steps/s, 8m10s left, a 0.25",
  ]


def test_progress_rewrites_its_line_on_a_terminal(monkeypatch, capsys):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  line = log.Progress(total=2)
  line.update(1, {})
  line.update(2, {})
  line.close()
  text = capsys.readouterr().err
  assert (text.count("\r"), text.count("\n")) == (2, 1)
