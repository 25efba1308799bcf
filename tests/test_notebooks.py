"""Notebooks: valid, in smoke form, and of commands and fields that exist."""

import ast
import json
import re
import runpy
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "launch" / "colab").glob("*.ipynb"))
NAMES = {"quickstart", "bring_your_own_backbone", "evaluate_checkpoint"}


def _code(path):
  cells = json.loads(path.read_text())["cells"]
  return [
    "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"
  ]


def test_all_notebooks_are_there():
  assert {path.stem for path in NOTEBOOKS} == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_valid_and_clean(path):
  notebook = json.loads(path.read_text())
  assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
  assert notebook["metadata"]["accelerator"] == "TPU"
  ids = [cell["id"] for cell in notebook["cells"]]
  assert len(set(ids)) == len(ids)
  for cell in notebook["cells"]:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
    keys = {"cell_type", "id", "metadata", "source"}
    if cell["cell_type"] == "code":
      keys |= {"execution_count", "outputs"}
      assert not cell["outputs"] and cell["execution_count"] is None
      ast.parse("".join(cell["source"]))
    assert cell.keys() == keys
  assert _code(path)[0].startswith("SMOKE = True\n")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_uses_binaries_configs_and_fields_that_exist(path):
  text = "\n".join(_code(path))
  for binary in re.findall(r"\brun\(\s*\"(\w+)\"", text):
    source = (ROOT / "forecasting" / f"{binary}.py").read_text()
    assert 'DEFINE_string(\n    "workdir"' in source
  (config,) = set(re.findall(r"configs/\w+\.py", text))
  get_config = runpy.run_path(str(ROOT / config))["get_config"]
  for variant in ("", "smoke"):
    known = get_config(variant)
    fields = re.findall(r"--config\.([\w.]+)=", text)
    for field in fields:
      value = known
      for name in field.split("."):
        assert name in value, field
        value = value[name]
  flags = set(re.findall(r"\"--(\w+)|f\"--(\w+)", text))
  assert {a or b for a, b in flags} == {"config", "workdir"}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  first, count = re.subn(
    r"(WORKDIR|FOLDER) = .*", rf"\1 = {str(tmp_path)!r}", _code(path)[0]
  )
  assert count == 1
  notebook = nbformat.read(path, as_version=4)
  next(c for c in notebook.cells if c.cell_type == "code").source = first
  nbclient.NotebookClient(notebook, timeout=1800).execute()
  (report,) = tmp_path.rglob("report.html")
  assert report.stat().st_size > 0
