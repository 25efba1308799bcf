"""Runs that take the readouts of another run."""

import json
import re

import jax
import pytest
import tiny_run

from forecasting import config as config_lib
from forecasting import experiment, readouts_from
from forecasting.training.log import METRICS, read_metrics


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """A run that trains everything, and one that takes its readout."""
  folder = tmp_path_factory.mktemp("runs")
  tiny_run.write_latents(folder / "latents")
  fields = tiny_run.FIELDS | {"latents.path": folder / "latents"}
  taken = fields | {"readout.from_run": folder / "both"}
  for name, chosen in (("both", fields), ("taken", taken)):
    command = tiny_run.command("main", folder / name, chosen)
    result = tiny_run.run(command)
    assert result.returncode == 0, result.stderr[-2000:]
  return folder / "both", folder / "taken"


def test_forecasters_and_scores_are_those_of_the_other_run(runs):
  both, taken = map(tiny_run.parameters, runs)
  assert {path.split("'")[1] for path in taken} == {"forecaster-flow"}
  assert set(taken) < set(both)
  for path, value in taken.items():
    assert (value == both[path]).all(), path
  both, taken = map(tiny_run.scores, runs)
  assert len(taken) > 100
  assert taken == both


def test_both_say_what_they_were_trained_on(runs):
  latents = json.loads((runs[0] / "trained_on.json").read_text())
  assert (latents["backbone"], latents["num_clips"]) == ("noise", 16)
  assert json.loads((runs[1] / "trained_on.json").read_text()) == latents


def test_only_the_forecaster_is_trained(runs):
  rows = read_metrics(runs[1] / METRICS)
  assert {row["trainee"] for row in rows} == {"forecaster-flow"}


def _config(workdir, **fields):
  """Returns the config of a finished run, as one that takes its readouts."""
  stored = json.loads((workdir / "config.json").read_text())
  config = config_lib.experiment("4ds_tiny", "boxes")("smoke")
  with config.unlocked():
    config.update_from_flattened_dict(
      {
        "latents.path": stored["latents"]["path"],
        "data.size": stored["data"]["size"],
        "readout.width": stored["readout"]["width"],
        "readout.query_hidden": stored["readout"]["query_hidden"],
        "readout.from_run": str(workdir),
        **fields,
      }
    )
  return config


def test_a_run_with_the_same_readouts_may_take_them(runs):
  config = _config(runs[0])
  assert not [*readouts_from.problems(config)]
  (name, params), *others = readouts_from.load(config).items()
  assert name == "readout-boxes" and not others and jax.tree.leaves(params)


def test_configs_of_older_runs_are_understood(tmp_path):
  config = config_lib.experiment("4ds_tiny", "boxes")("smoke")
  stored = config.to_dict()
  assert not {"num_points", "num_boxes"} & set(stored["readout"])
  stored["readout"] |= {"num_points": 64, "num_boxes": 5}  # read by nothing
  (tmp_path / "config.json").write_text(json.dumps(stored))
  with config.unlocked():
    config.readout.from_run = str(tmp_path)
  assert not [*readouts_from.problems(config)]


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ({"readout.width": 24}, r"readout\.width = 24, .* trained with 16"),
    ({"data.num_context": 8}, r"data\.num_context = 8, .* trained with 4"),
    ({"backbone.layernorm": False}, r"backbone\.layernorm = False, .* True"),
    ({"latents.path": None}, r"latents\.path = None, .* trained with '"),
    ({"tasks": ("boxes", "depth")}, r"no readouts of \['depth'\]"),
    ({"forecasters": ()}, r"forecasters is empty"),
    ({"readout.from_run": "/nowhere"}, r"cannot read /nowhere/config\.json"),
  ],
)
def test_other_readouts_are_refused(runs, fields, words):
  (problem,) = readouts_from.problems(_config(runs[0], **fields))
  assert re.search(words, problem)


@pytest.mark.parametrize(
  ("about", "words"),
  [
    ({"weights_digest": "other"}, "weights_digest 'external', .* 'other'"),
    ({"layer": "block 2 of 4"}, "layer 'external', .* 'block 2 of 4'"),
  ],
)
def test_readouts_of_other_latents_are_refused(runs, tmp_path, about, words):
  """Also where the folder has the name that it had."""
  path = tmp_path / "latents"
  tiny_run.write_latents(path, **about)
  config = _config(runs[0])
  with config.unlocked():
    config.latents.path = str(path)
  with pytest.raises(ValueError, match=words) as error:
    experiment.open_experiment(config, tmp_path / "new")
  assert str(runs[0]) in str(error.value)
  assert "readout.from_run=''" in str(error.value)
  assert not (tmp_path / "new").exists()


def test_a_run_of_an_older_version_is_not_asked_for_its_latents(runs, tmp_path):
  (tmp_path / "old").mkdir()
  for name in ("checkpoints", "config.json"):
    (tmp_path / "old" / name).symlink_to(runs[0] / name)
  tiny_run.write_latents(tmp_path / "latents", weights_digest="other")
  config = _config(runs[0])
  with config.unlocked():
    config.readout.from_run = str(tmp_path / "old")
    config.latents.path = str(tmp_path / "latents")
  experiment.open_experiment(config, tmp_path / "new")


def test_readouts_in_training_are_refused(runs):
  config = _config(runs[0])
  with config.unlocked():
    config.readout.steps = 100
  with pytest.raises(ValueError, match="6 of 100 steps"):
    readouts_from.load(config)
