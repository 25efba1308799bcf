"""Every config builds, validates and shrinks; mistakes are named."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tiny_run

from forecasting import config as config_lib
from forecasting import presets, validation
from forecasting.forecaster import attention

FOLDER = Path(__file__).parents[1] / "configs"
# Studies hold configs of runs; tests/study/test_cells.py validates those.
FILES = [p for p in sorted(FOLDER.glob("*.py")) if p.stem[:6] != "study_"]
PAPER = [p for p in FILES if p.stem.rpartition("_")[0] in presets.MODELS]
# Of each task: data to train and to score on, and what a user has to get.
DATA = {
  "pixels": ("scannet", None),
  "depth": ("scannet", None),
  "points": ("movi", "perception_test"),
  "boxes": ("waymo", None),
}
WORDS = {
  "pixels": [["ScanNet", "www.scan-net.org"]],
  "depth": [["ScanNet", "www.scan-net.org"]],
  "points": [["MOVi", "gs://kubric-public"], ["Perception Test", "videos/"]],
  "boxes": [["Waymo Open", "waymo.com/open"]],
}


def load(path, variant=""):
  spec = importlib.util.spec_from_file_location("config_under_test", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module, module.get_config(variant)


def quick(**changes):
  cfg = config_lib.experiment("4ds_tiny", config_lib.TASK_NAMES)()
  cfg.update_from_flattened_dict(
    {k.replace("__", "."): v for k, v in changes.items()}
  )
  return cfg


def provide(cfg, folder):
  """Stands in for what a user downloads: weights and folders of data."""
  cfg.backbone.random_init = True
  cfg.data.path = str(folder)
  if cfg.data.eval_name:
    cfg.data.eval_path = str(folder)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("variant", ["", "smoke"])
def test_every_config_validates_and_names_its_command(path, variant, tmp_path):
  module, cfg = load(path, variant)
  if path in PAPER and not variant:
    provide(cfg, tmp_path)
  elif cfg.data.name == "videos":
    cfg.data.path = str(tmp_path)
  validation.validate(cfg)
  assert f"--config=configs/{path.name}" in module.__doc__


def test_every_model_of_the_paper_has_a_config_of_every_task():
  expected = {f"{m}_{t}" for m in presets.MODELS for t in config_lib.TASK_NAMES}
  assert {path.stem for path in PAPER} == expected


@pytest.mark.parametrize("model", presets.MODELS)
def test_smoke_takes_the_tiny_backbone_of_a_model_s_own_family(model):
  backbone, tiny, _ = presets.MODELS[model]
  assert backbone.startswith(f"{tiny.removesuffix('_tiny')}_")


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_paper_s_settings_reach_its_configs(path):
  model, _, task = path.stem.rpartition("_")
  _, cfg = load(path)
  steps, batch_size = (160_000, 4) if model == "siglip" else (40_000, 32)
  assert cfg.tasks == (task,)
  assert cfg.readout.steps == cfg.forecaster.steps == steps
  assert cfg.train.batch_size == batch_size
  assert (cfg.data.name, cfg.data.eval_name) == DATA[task]
  assert cfg.backbone.name == presets.MODELS[model][0]
  assert ("native" in cfg.baselines) == (model == "n_walt")


@pytest.mark.parametrize("task", config_lib.TASK_NAMES)
def test_everything_that_is_to_be_downloaded_is_named_at_once(task, tmp_path):
  _, cfg = load(FOLDER / f"4ds_e_{task}.py")
  with pytest.raises(ValueError) as error:
    validation.validate(cfg)
  lines = str(error.value).splitlines()[1:]
  fields = ["backbone.checkpoint", "data.path"]
  fields += ["data.eval_path"] if task == "points" else []
  assert [line.split()[0].rstrip(":") for line in lines] == fields
  for line, words in zip(lines, [["4ds_e", "random_init"], *WORDS[task]]):
    for word in words:
      assert word in line
  cfg.data.path = str(tmp_path / "typo")
  with pytest.raises(ValueError, match=r"data\.path = .*typo.*no such folder"):
    validation.validate(cfg)
  provide(cfg, tmp_path)
  validation.validate(cfg)


def test_every_task_of_the_embedded_backbone_has_a_config():
  names = {path.stem for path in FILES}
  assert {f"4ds_tiny_{task}" for task in config_lib.TASK_NAMES} <= names


def test_smoke_is_smaller_than_the_run_itself():
  _, full = load(FOLDER / "quickstart.py")
  _, smoke = load(FOLDER / "quickstart.py", "smoke")
  assert smoke.readout.steps < full.readout.steps / 10
  assert smoke.data.train_clips < full.data.train_clips / 10
  assert smoke.name != full.name


def test_an_unknown_variant_is_refused():
  with pytest.raises(ValueError, match="unknown config variant 'smok'"):
    load(FOLDER / "quickstart.py", "smok")


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"tasks": ("boxs",)}, ["tasks", "'boxs'", "'boxes'"]),
    ({"backbone__name": "4ds_tini"}, ["backbone.name", "4ds_tiny"]),
    ({"forecasters": ("flo",)}, ["forecasters", "'flow'"]),
    ({"baselines": ("climate",)}, ["baselines", "'climatology'"]),
    ({"data__name": "mujoco"}, ["data.name", "'mujoco_scenes'"]),
    ({"train__batch_size": 0}, ["train.batch_size", "positive"]),
    ({"data__scenes__interval": 0.0}, ["data.scenes.interval", "positive"]),
    (
      {"data__scenes__turn_probability": 2.0},
      ["data.scenes.turn_probability", "from 0 to 1"],
    ),
    ({"train__accumulate": 3}, ["train.batch_size", "train.accumulate = 3"]),
    ({"train__keep_every": 7}, ["train.keep_every", "train.checkpoint_every"]),
    (
      {"forecaster__model__remat": "all"},
      ["forecaster.model.remat", "known: default, none, dots, full"],
    ),
    ({"data__num_context": 3}, ["data.num_context", "tubelet"]),
    ({"data__size": 128}, ["data.size", "64"]),
    ({"forecaster__model__patch": 3}, ["forecaster.model.patch"]),
    ({"forecaster__sampler__grid": "log"}, ["forecaster.sampler.grid"]),
    ({"backbone__layer": "1.5"}, ["backbone.layer"]),
    ({"forecaster__flow__shift": "-2"}, ["forecaster.flow.shift"]),
    ({"forecaster__flow__shift": "auto"}, ["forecaster.flow.shift"]),
    ({"forecaster__compress": "pca"}, ["forecaster.compress", "pca(64)"]),
    ({"forecaster__compress": "vae(x)"}, ["forecaster.compress", "'vae(k)'"]),
    ({"forecaster__vae__kl_weight": 0.0}, ["vae.kl_weight", "positive"]),
    (
      {"forecaster__best_of_many__members": 1},
      ["forecaster.best_of_many.members", "at least 2"],
    ),
    (
      {"forecaster__best_of_many__norm": "slot"},
      ["forecaster.best_of_many.norm", "known: token, position, clip"],
    ),
    ({"forecaster__flow__rolling": 1.5}, ["flow.rolling", "from 0 to 1"]),
    ({"forecaster__ensemble": 0}, ["forecaster.ensemble", "positive"]),
    ({"data__horizon_frames": 20}, ["data.horizon_frames", "28"]),
    ({"forecaster__horizon__mode": "roll"}, ["horizon.mode", "'rollout'"]),
    (
      {"forecaster__horizon__context_level": 0.1},
      ["forecaster.horizon.context_level", "forecaster.flow.context_noise"],
    ),
    ({"backbone__checkpoint": "/no/such"}, ["backbone.checkpoint", "no file"]),
    ({"data__name": "videos"}, ["data.path", "tasks"]),
    ({"readout__heads__boxes": 3}, ["readout.heads.boxes"]),
    ({"readout__noise": -0.5}, ["readout.noise", "0 or a positive"]),
    ({"readout__certain_within": 0.0}, ["readout.certain_within", "positive"]),
    (
      {"forecaster__model__heads": 3},
      ["forecaster.model.width 128", "forecaster.model.heads 3"],
    ),
    # Two pairs for each of three axes, and four left without position.
    (
      {"forecaster__model__width": 144, "forecaster__model__heads": 16},
      ["heads of 9 dim", "forecaster.model.width / heads must be at least 10"],
    ),
    (
      {"forecaster__model__head_width": 100},
      ["forecaster.model.head_width 100"],
    ),
    (
      {"forecaster__model__head_width": -32},
      ["forecaster.model.head_width = -32", "-1, 0 or a positive"],
    ),
    ({"data__futures_per_context": 0}, ["data.futures_per_context = 0"]),
    ({"data__workers": -1}, ["data.workers = -1", "0 or a positive"]),
    ({"data__eval_fraction": 1.0}, ["data.eval_fraction = 1.0", "between"]),
    ({"data__eval_fraction": 0.0}, ["data.eval_fraction = 0.0", "between"]),
    ({"data__future_contexts": -1}, ["data.future_contexts = -1"]),
    ({"data__horizon_clips": 0}, ["data.horizon_clips = 0", "positive"]),
    ({"data__max_recordings": 0}, ["data.max_recordings = 0", "None or"]),
    ({"readout__query_hidden": 0}, ["readout.query_hidden = 0", "positive"]),
    ({"readout__train_queries": -1}, ["readout.train_queries = -1"]),
    ({"readout__train_tracks": -1}, ["readout.train_tracks = -1"]),
    ({"readout__heads__boxes": 0}, ["readout.heads.boxes = 0", "positive"]),
    ({"readout__output_scale": 0.0}, ["readout.output_scale", "positive"]),
    ({"readout__ema_decay": 1.0}, ["readout.ema_decay = 1.0", "below 1"]),
    ({"readout__patch": (2, 8, 0)}, ["readout.patch = (2, 8, 0)", "positive"]),
    ({"readout__patch": (2, 8, 7)}, ["(2, 8, 7)", "readout.patch"]),
    (
      {"readout__optimizer__warmup_steps": -1},
      ["readout.optimizer.warmup_steps = -1"],
    ),
    ({"forecaster__ema_decay": 1.5}, ["forecaster.ema_decay = 1.5", "below"]),
    ({"forecaster__vae__ema_decay": -0.1}, ["forecaster.vae.ema_decay = -0.1"]),
    ({"forecaster__optimizer__b2": 1.0}, ["forecaster.optimizer.b2 = 1.0"]),
    (
      {"forecaster__sampler__t_min": 0.6, "forecaster__sampler__t_max": 0.5},
      ["t_min = 0.6", "t_max = 0.5", "0 < t_min < t_max < 1"],
    ),
    ({"forecaster__sampler__t_max": 1.1}, ["t_max = 1.1", "t_max < 1"]),
    ({"forecaster__sampler__t_min": 0.0}, ["t_min = 0.0", "0 < t_min"]),
    ({"forecaster__sampler__t_min": 2.0}, ["sampler.t_min = 2.0"]),
    ({"forecaster__sampler__chunk": 0}, ["sampler.chunk = 0", "positive"]),
    ({"forecaster__sampler__eta": 1.5}, ["sampler.eta = 1.5", "from 0 to 1"]),
    ({"forecaster__sampler__churn": -1.0}, ["sampler.churn = -1.0"]),
    (
      {"forecaster__sampler__guidance": 1.0},
      ["forecaster.sampler.guidance", "forecaster.flow.context_dropout"],
    ),
    (
      {"forecaster__flow__noise_multiplicity": 0},
      ["forecaster.flow.noise_multiplicity = 0", "positive"],
    ),
    ({"forecaster__ddpm__steps": 0}, ["forecaster.ddpm.steps = 0"]),
    (
      {"forecaster__ddpm__steps": 1001},
      ["forecaster.ddpm.steps = 1001", "forecaster.ddpm.levels = 1000"],
    ),
    ({"forecaster__shortcut__steps": 3}, ["shortcut.steps is 3", "power"]),
    (
      {"forecaster__shortcut__steps": 128},
      ["shortcut.steps is 128", "shortcut.finest = 64"],
    ),
    ({"forecaster__shortcut__finest": 48}, ["shortcut.finest is 48", "power"]),
    ({"forecaster__compress": "pca(500)"}, ["'pca(500)'", "128 channels"]),
    ({"forecaster__compress": "vae(500)"}, ["'vae(500)'", "128 channels"]),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_named_with_its_field_and_a_way_out(changes, words):
  with pytest.raises(ValueError) as error:
    validation.validate(quick(**changes))
  for word in words:
    assert word in str(error.value)


_SWITCHES = [
  {"forecaster__compress": "pca(8)"},
  {"forecaster__compress": "vae(8)", "forecaster__ensemble": 2},
  {"forecaster__normalize__stats": "per_element"},
  {"forecaster__normalize__target_transform": "residual_linear"},
  {"forecaster__normalize__target_transform": "residual_model"},
  {"data__horizon_frames": 28},
  {
    "data__horizon_frames": 28,
    "forecaster__horizon__mode": "pyramid",
    "forecaster__flow__rolling": 0.5,
    "forecasters": ("flow", "energy", "regression"),
  },
]


@pytest.mark.parametrize("changes", _SWITCHES, ids=lambda x: next(iter(x)))
def test_all_forecasters_are_built_on_shapes(changes):
  everything = {
    "forecasters": validation.FORECASTERS,
    "baselines": tuple(set(validation.BASELINES) - {"native"}),
  }
  validation.validate(quick(**everything | changes))


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"forecaster__compress": "pca(9)"}, r"'pca\(9\)': .* have 8 channels"),
    ({"forecaster__model__patch": 4}, r"patch = 4 does not .* grid \(2, 2\)"),
  ],
)
def test_settings_have_to_fit_latents_written_elsewhere(
  changes, words, tmp_path
):
  tiny_run.write_latents(tmp_path)
  path = {"latents__path": str(tmp_path)}
  validation.validate(quick(**path))
  with pytest.raises(ValueError, match=words):
    validation.validate(quick(**path, **changes))
  (tmp_path / "train" / "manifest.json").unlink()
  with pytest.raises(ValueError, match=r"latents\.path: .*does not exist"):
    validation.validate(quick(**path))


def test_the_narrowest_heads_are_accepted_and_make_a_network():
  cfg = quick(forecaster__model__width=160, forecaster__model__heads=16)
  validation.validate(cfg)
  attention.rotary_angles(np.zeros((1, 2), np.float32), 2, 2, 160 // 16)


def test_all_problems_are_listed_at_once():
  cfg = quick(tasks=("boxs",), train__batch_size=-1)
  with pytest.raises(ValueError) as error:
    validation.validate(cfg)
  assert "boxs" in str(error.value) and "train.batch_size" in str(error.value)


@pytest.mark.parametrize("value", [0, -1])
def test_baselines_are_fitted_to_a_clip_at_least(value):
  assert quick().eval.bank_clips == 512
  with pytest.raises(ValueError, match=rf"eval\.bank_clips.*{value}"):
    validation.validate(quick(eval__bank_clips=value))


def test_an_unknown_field_is_refused():
  cfg = quick()
  with pytest.raises((AttributeError, KeyError), match="learning_rat"):
    cfg.readout.optimizer.learning_rat = 1.0


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
  blocked = tmp_path / "file"
  blocked.write_text("")
  with pytest.raises(OSError, match="--workdir"):
    validation.check_workdir(blocked / "run")
