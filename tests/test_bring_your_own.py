"""Latents written with plain NumPy train as those of our backbones do."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from forecasting import experiment, validation
from forecasting import main as main_lib

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "launch" / "colab" / "bring_your_own_backbone.ipynb"
CONFIG = ROOT / "configs" / "4ds_tiny_pixels.py"
# Smaller than the smoke form: what is tested is the way, not the training.
SMALLER = {
  "data.size": 32,
  "readout.width": 32,
  "readout.query_hidden": 16,
  "readout.steps": 4,
  "forecaster.steps": 4,
  "forecaster.model.width": 32,
  "forecaster.model.heads": 2,
  "forecasters": ("regression",),
  "train.log_every": 1,
}


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
  """Stores written by the cells of the notebook that need nothing of ours."""
  folder = tmp_path_factory.mktemp("mine")
  cells = json.loads(NOTEBOOK.read_text())["cells"]
  code = [
    "".join(cell["source"])
    for cell in cells
    if "writes-store" in cell["metadata"].get("tags", ())
  ]
  assert len(code) == 2
  assert "jax" not in "".join(code)
  names = {"FOLDER": str(folder), "CLIPS": {"train": 16, "eval": 4}}
  for text in code:
    exec(compile(text, str(NOTEBOOK), "exec"), names)
  return folder / "latents"


@pytest.fixture
def config(latents):
  """Returns the config that reads them."""
  config = runpy.run_path(str(CONFIG))["get_config"]("smoke")
  with config.unlocked():
    config.update_from_flattened_dict(SMALLER)
    config.latents.path = str(latents)
  return config


def test_a_written_store_opens(config, tmp_path):
  validation.validate(config)
  run = experiment.open_experiment(config, tmp_path)
  sizes = {split: len(store) for split, store in run.stores.items()}
  assert sizes == {"train": 12, "held_out": 4, "eval": 4}
  assert run.stores["train"].manifest.backbone == "mine"
  assert (run.spec.tc, run.spec.tf, run.spec.h, run.spec.w) == (2, 6, 4, 4)
  # What was written is what is read, up to the storage type.
  example = run.stores["train"][0]
  first = example["video"][:2, :8, :8].astype(np.float32).reshape(-1)
  first = (first - first.mean()) / first.std()
  np.testing.assert_allclose(example["clip"][0, 0, 0], first, atol=0.02)


@pytest.mark.slow
def test_a_written_store_trains(config, tmp_path):
  main_lib.train(experiment.open_experiment(config, tmp_path), tmp_path)
  rows = [
    json.loads(line)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
  ]
  for trainee in ("readout-pixels", "forecaster-regression"):
    steps = [row["step"] for row in rows if row["trainee"] == trainee]
    assert steps == [1, 2, 3, 4]
  assert np.isfinite([row["loss"] for row in rows]).all()


def test_a_store_of_another_size_is_named(config, tmp_path):
  with config.unlocked():
    config.data.size = 64
  with pytest.raises(ValueError, match=r"set data\.size=32"):
    experiment.open_experiment(config, tmp_path)


def test_readme_and_notebook_write_the_same_store(tmp_path, monkeypatch):
  readme = ROOT / "README.md"
  if "def encode(video)" not in readme.read_text():
    pytest.skip("the snippet is not in the README yet")
  text = readme.read_text().split("## Bring your own backbone", 1)[1]
  snippets = [part.split("```")[0] for part in text.split("```python\n")[1:]]
  monkeypatch.chdir(tmp_path)
  names = {}
  for snippet in (snippets[1], snippets[0]):
    exec(compile(snippet, "README", "exec"), names)
  assert len(experiment.LatentStore(tmp_path / "latents" / "train")) == 64
