import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import check_metrics


def _write(folder, name="aggregate", **changes):
  arrays = {
    "values": np.array([[1.0, 3.0], [4.0, 4.0]]),
    "ex_std": np.array([1.0, 0.0]),
    "ds_mean": np.array(3.0),
    "n_examples": np.array(2),
  }
  np.savez(folder / f"{name}.npz", **{**arrays, **changes})


def _run(folder, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["check_metrics.py", str(folder)])
  return check_metrics.main()


def test_right_values_pass(tmp_path, monkeypatch, capsys):
  _write(tmp_path)
  assert _run(tmp_path, monkeypatch) == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines] == ["ok"] * 3 + ["1"]


@pytest.mark.parametrize(
  "changes",
  [
    {"ds_mean": np.array(3.00001)},
    {"ds_mean": np.array(np.nan)},
    {"ex_std": np.array([1.0, np.nan])},
    {"ex_std": np.array([1.0])},
    {"values": np.zeros((2, 0))},
  ],
)
def test_wrong_values_fail(tmp_path, monkeypatch, capsys, changes):
  _write(tmp_path, **changes)
  assert _run(tmp_path, monkeypatch) == 1
  assert "FAIL aggregate" in capsys.readouterr().out


def test_one_flipped_point_fails(tmp_path, monkeypatch):
  seen = np.ones((1, 16, 50), bool)
  arrays = {
    "gt_tracks": np.zeros((1, 16, 50, 2), np.float32),
    "pred_tracks": np.zeros((1, 1, 16, 50, 2), np.float32),
    "gt_visible": seen,
    "pred_visible": seen[:, None],
    "track_mask": np.ones((1, 50), bool),
    "sample_aj": np.ones((1, 1)),
  }
  np.savez(tmp_path / "aj_forecast.npz", **arrays)
  assert _run(tmp_path, monkeypatch) == 0
  arrays["sample_aj"] = arrays["sample_aj"] - 1e-9
  np.savez(tmp_path / "aj_forecast.npz", **arrays)
  assert _run(tmp_path, monkeypatch) == 1


def test_unknown_file_fails(tmp_path, monkeypatch, capsys):
  _write(tmp_path)
  _write(tmp_path, name="lpips")
  assert _run(tmp_path, monkeypatch) == 1
  assert "FAIL lpips.npz: unknown file" in capsys.readouterr().out


def test_empty_folder_and_file_without_expectations_fail(tmp_path, monkeypatch):
  assert _run(tmp_path, monkeypatch) == 1
  np.savez(tmp_path / "aggregate.npz", values=np.ones((1, 1)))
  assert _run(tmp_path, monkeypatch) == 1


def test_broken_file_fails_and_the_others_still_run(
  tmp_path, monkeypatch, capsys
):
  (tmp_path / "fd.npz").write_bytes(b"not a zip archive")
  _write(tmp_path)
  assert _run(tmp_path, monkeypatch) == 1
  out = capsys.readouterr().out
  assert "FAIL fd.npz" in out and "ok   aggregate ds_mean" in out
