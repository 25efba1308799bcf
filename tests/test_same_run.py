"""A workdir goes on only as the run that it holds."""

import json
import shutil

import pytest
import tiny_run

from forecasting import calibration, experiment, same_run
from forecasting import config as config_lib
from forecasting import eval as eval_lib
from forecasting import main as main_lib
from forecasting.latents.store import LatentStore
from forecasting.training import checkpoint


@pytest.fixture(scope="module", name="latents")
def fixture_latents(tmp_path_factory):
  folder = tmp_path_factory.mktemp("latents")
  tiny_run.write_latents(folder, weights_digest="ours")
  return folder


@pytest.fixture(name="workdir")
def fixture_workdir(latents, tmp_path):
  """What a run leaves that is compared, and no more: that costs no training."""
  same_run.save_latents(LatentStore(latents / "train"), tmp_path)
  return kept(tmp_path, config_on(latents))


def config_on(latents, **fields):
  return tiny_run.config(**{"latents.path": str(latents)} | fields)


def kept(workdir, config):
  """Returns a workdir with a config and the name of a checkpoint."""
  same_run.save_config(config, workdir)
  (workdir / checkpoint.FOLDER / "6").mkdir(parents=True)
  return workdir


def contents(folder):
  """Returns the content of every file below a folder."""
  return {
    path.relative_to(folder): path.is_file() and path.read_bytes()
    for path in folder.rglob("*")
  }


both = pytest.mark.parametrize(
  "binary", [main_lib, eval_lib], ids=["main", "eval"]
)


@both
def test_another_config_is_refused_by_every_field(latents, workdir, binary):
  config = config_on(
    latents,
    **{
      "seed": 3,
      "forecaster.normalize.target_transform": "none",
      "train.batch_size": 8,
      "eval.num_samples": 2,
    },
  )
  before = contents(workdir)
  with pytest.raises(ValueError, match="another config") as error:
    binary.run(config, workdir)
  listed = [x.split()[0] for x in str(error.value).splitlines() if x[0] == " "]
  assert listed == [
    "forecaster.normalize.target_transform:",
    "seed:",
    "train.batch_size:",
  ]
  for words in ("seed: trained with 0, asked for 3", "another --workdir"):
    assert words in str(error.value)
  assert contents(workdir) == before


@both
@pytest.mark.parametrize(
  "about", [{"weights_digest": "theirs"}, {"fingerprint": "other clips"}]
)
def test_other_latents_are_refused(workdir, binary, about, tmp_path_factory):
  """Also where the config names the same backbone."""
  other = tmp_path_factory.mktemp("other")
  tiny_run.write_latents(other, **{"weights_digest": "ours"} | about)
  before = contents(workdir), contents(other)
  with pytest.raises(ValueError, match="other latents") as error:
    binary.run(config_on(other), workdir)
  ((field, value),) = about.items()
  assert f"  {field}: trained with " in str(error.value)
  assert f"asked for {value!r}" in str(error.value)
  after = contents(workdir)
  # The lock of `main` keeps other runs out while it looks.
  after = {path: x for path, x in after.items() if path.name != ".running"}
  assert (after, contents(other)) == before


def test_weights_are_compared_before_anything_is_extracted(workdir):
  config = tiny_run.config(**{"data.size": 64})
  same_run.save_config(config, workdir)
  before = contents(workdir)
  with pytest.raises(ValueError, match="weights_digest: trained with 'ours'"):
    experiment.open_experiment(config, workdir)
  assert contents(workdir) == before


def test_calibration_refuses_another_config_too(latents, workdir):
  with pytest.raises(ValueError, match="seed: trained with 0"):
    calibration.measure(config_on(latents, seed=1), workdir)


def test_latents_may_move_and_be_spread_otherwise(latents, workdir):
  moved = workdir / "moved"
  shutil.copytree(latents, moved)
  tiny_run.write_latents(moved, weights_digest="ours", clips_per_shard=5)
  config = config_on(moved)
  same_run.check_config(config, workdir)
  run = experiment.open_experiment(config, workdir)
  assert len(run.stores["train"].manifest.shards) == 4


def test_a_run_says_what_it_is_trained_on(latents, workdir):
  found = json.loads((workdir / same_run.TRAINED_ON).read_text())
  manifest = json.loads((latents / "train" / "manifest.json").read_text())
  assert found["weights_digest"] == "ours" and found["num_clips"] == 16
  for name in ("backbone", "layer", "context_mode", "dataset", "fingerprint"):
    assert found[name] == manifest[name]
  assert manifest.keys() - found.keys() == {
    *("shards", "clips_per_shard", "skipped", "created_by")
  }


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ({"data.train_clips": 31}, "data.train_clips: trained with 32, .* 31"),
    ({"backbone.layer": "0.5"}, "backbone.layer: trained with 'default'"),
    ({"readout.patch": (2, 4, 4)}, r"readout.patch: .* \[2, 8, 8\], .* 4\]"),
    ({"forecaster.vae.width": 8}, "forecaster.vae.width"),
    # The ends of the sampler are levels of training only for some.
    (
      {"forecasters": ("shortcut",), "forecaster.sampler.t_min": 0.2},
      "forecaster.sampler.t_min: trained with 0.1",
    ),
  ],
)
def test_what_training_depends_on_is_compared(fields, words, tmp_path):
  workdir = kept(tmp_path, tiny_run.config())
  with pytest.raises(ValueError, match=words):
    same_run.check_config(tiny_run.config(**fields), workdir)


def test_what_may_change_is_in_the_config_and_not_compared(tmp_path):
  config = tiny_run.config()
  workdir = kept(tmp_path, config)
  sections = (*same_run.MAY_CHANGE, "train")
  known = same_run.flat(config_lib.base_config())
  for section in sections:
    assert any(same_run.is_within(field, [section]) for field in known), section
  values = {
    field: _other(value)
    for field, value in _leaves(config)
    if same_run.is_within(field, sections) and field != "train.batch_size"
  }
  assert {"data.workers", "eval.bootstrap", "train.fsdp"} <= values.keys()
  with config.unlocked():
    config.update_from_flattened_dict(values)
  same_run.check_config(config, workdir)


def _other(value):
  """Returns another value of the same type."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, int | float):
    return value + 1
  return (*value, "more") if isinstance(value, tuple) else f"{value} more"


def _leaves(config, name=""):
  for key, value in config.items():
    path = f"{name}.{key}" if name else key
    if hasattr(value, "items"):
      yield from _leaves(value, path)
    else:
      yield path, value


def test_a_field_that_an_older_version_did_not_know_is_not_compared(tmp_path):
  workdir = kept(tmp_path, tiny_run.config())
  stored = json.loads((workdir / same_run.CONFIG).read_text())
  del stored["readout"]["noise"]
  (workdir / same_run.CONFIG).write_text(json.dumps(stored))
  same_run.check_config(tiny_run.config(**{"readout.noise": 1.0}), workdir)


def test_a_workdir_without_checkpoints_may_become_another_run(tmp_path):
  same_run.save_config(tiny_run.config(), tmp_path)
  same_run.check_config(tiny_run.config(seed=5), tmp_path)


def test_a_config_that_cannot_be_read_is_named(tmp_path):
  workdir = kept(tmp_path, tiny_run.config())
  (workdir / same_run.CONFIG).write_text("{")
  with pytest.raises(ValueError, match=r"cannot read .*config\.json"):
    same_run.check_config(tiny_run.config(), workdir)


def test_a_run_of_an_older_version_goes_on_unasked(latents, tmp_path):
  workdir = kept(tmp_path, config_on(latents))
  same_run.check_latents({"weights_digest": "other"}, workdir)
  # Nobody knows what its checkpoints were trained on.
  same_run.save_latents(LatentStore(latents / "train"), workdir)
  assert not (workdir / same_run.TRAINED_ON).exists()
