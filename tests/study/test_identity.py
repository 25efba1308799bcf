"""A cell is its settings and the content of its weights, wherever they lie."""

from pathlib import Path

import pytest

from forecasting.study.identity import identify

CONFIG = Path(__file__).parents[2] / "configs" / "study_tiny.py"


def _identify(cell, *flags):
  return identify([f"--config={CONFIG}:smoke,{cell}", "--workdir=x", *flags])


def _different(one, other):
  return {k for k in one | other if one.get(k) != other.get(k)}


def test_places_are_no_part_of_a_cell():
  flags = [
    "--config.data.root=/elsewhere",
    "--config.latents.root=/elsewhere",
    "--config.compiled=/elsewhere",
    "--verbosity=0",
  ]
  found = _identify("raw_tiny-0", *flags)
  assert found == _identify("raw_tiny-0")
  assert "weights" not in found and "/elsewhere" not in str(found)
  # Whose readouts it takes is.
  runs = [
    _identify("raw_tiny-0", f"--config.readout.from_run={folder}")
    for folder in ("/a/cells/x-0", "/b/cells/x-0", "/a/cells/y-0")
  ]
  assert runs[0] == runs[1]
  assert _different(runs[0], runs[2]) == {"readout.from_run"}


def test_settings_are_as_flags_leave_them():
  first = _identify("raw_tiny-0")
  assert first["forecaster.steps"] == 6
  other = _identify("raw_tiny-0", "--config.forecaster.steps=7")
  assert _different(first, other) == {"forecaster.steps"}
  assert _different(first, _identify("raw_tiny-1")) == {"seed"}
  # Data made elsewhere is named by nothing but its folder.
  other = _identify("raw_tiny-0", "--config.data.path=/scannet")
  assert _different(first, other) == {"data.path"}


def test_weights_count_by_their_content(tmp_path):
  def identity(name):
    return _identify(
      "4ds_tiny-0", f"--config.backbone.checkpoint={tmp_path / name}"
    )

  (tmp_path / "a").write_bytes(b"old")
  (tmp_path / "b").write_bytes(b"old")
  first = identity("a")
  assert first == identity("b")
  (tmp_path / "a").write_bytes(b"newer")
  assert _different(first, identity("a")) == {"weights"}
  (tmp_path / "a").unlink()
  with pytest.raises(FileNotFoundError):
    identity("a")
  shipped = _identify("4ds_tiny-0")
  assert _different(first, shipped) == {"weights"}
