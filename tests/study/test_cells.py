"""The paper's grid: cells, their commands, what is missing, the report."""

import importlib.util
import itertools
import subprocess
from pathlib import Path

import pytest

from forecasting import validation
from forecasting.backbones.zoo import get_spec
from forecasting.study import __main__ as study_binary
from forecasting.study import config as study_config
from forecasting.study import queue as run_queue

ROOT = Path(__file__).parents[2]


def _get_config(path):
  spec = importlib.util.spec_from_file_location("config_file", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config


class _Ended:
  """A process that has ended."""

  def __init__(self, code):
    self.returncode = code

  def poll(self):
    return self.returncode


def _fake_start(monkeypatch, fails=()):
  """Lets runs end as they start; returns the list of their folders' names."""
  started = []

  def start(run, cores, has_log):
    started.append(run.workdir.name)
    run_queue._mark_started(run)
    return _Ended(3 if run.workdir.name in fails else 0)

  monkeypatch.setattr(run_queue, "start", start)
  return started


def test_cells_of_a_study_are_configs_of_main():
  get_config = _get_config(ROOT / "configs" / "study_tiny.py")
  cfg = get_config()
  cells = study_config.cell_names(cfg)
  assert len(cells) == len(set(cells)) == len(cfg.models) * 3
  assert cells[0].endswith("-0") and cells[-1].endswith("-2")
  for name in ("4ds_tiny-0", "4ds_tiny_random-1", "raw_tiny-2", "walt_tiny-1"):
    for variant in (name, f"smoke,{name}"):
      cell = get_config(variant)
      assert cell.seed == int(name[-1])
      assert cell.tasks == ("pixels", "depth", "points", "boxes")
      assert cell.forecasters == ("flow", "regression")
      has_weights = bool(get_spec(cell.backbone.name).checkpoint)
      is_random = "random" in name or not has_weights
      assert cell.backbone.random_init == is_random
      validation.validate(cell)
  names = {get_config(cell).name for cell in cells}
  assert len(names) == len(cfg.models)
  assert "native" in get_config("walt_tiny-1").baselines
  readouts = get_config("walt_tiny_random-0")
  validation.validate(readouts)
  assert readouts.backbone.random_init and readouts.forecasters == ()
  assert readouts.baselines == ("oracle_future",)
  families = {name for name in cfg.models if not name.endswith("_random")}
  assert {f"{name}_random" for name in families - {"raw_tiny"}} < set(
    cfg.models
  )
  assert get_config("4ds_tiny-0").data == get_config("raw_tiny-2").data
  smoke = get_config("smoke")
  assert 3 < len(study_config.cell_names(smoke)) < len(cfg.models)
  assert set(smoke.models) < set(cfg.models)
  for wrong in ("vjepa_tiny", "vjepa-0", "smoke,", "tiny"):
    with pytest.raises(ValueError, match="unknown config variant"):
      get_config(wrong)


def test_study_plans_one_process_per_cell(tmp_path):
  path = ROOT / "configs" / "study_tiny.py"
  cfg = _get_config(path)("smoke")
  runs = study_binary.plan(cfg, f"{path}:smoke", tmp_path)
  assert len(runs) == len(cfg.models)
  first = runs[0]
  assert first.workdir == tmp_path / "cells" / "4ds_tiny-0"
  assert first.command[1:] == [
    "-m",
    "forecasting.main",
    f"--config={path}:smoke,4ds_tiny-0",
    f"--workdir={first.workdir}",
    f"--config.data.root={tmp_path / 'data'}",
    f"--config.latents.root={tmp_path / 'latents'}",
    f"--config.compiled={tmp_path / 'compiled'}",
  ]
  cfg.only = ("raw_tiny-0",)
  (only,) = study_binary.plan(cfg, str(path), tmp_path)
  assert only.workdir.name == "raw_tiny-0"
  cfg.only = ("raw_tiny-9",)
  with pytest.raises(ValueError, match=r"no cell 'raw_tiny-9'"):
    study_binary.plan(cfg, str(path), tmp_path)
  cfg.models = ("4ds_huge",)
  with pytest.raises(ValueError, match=r"no '4ds_huge'"):
    study_binary.plan(cfg, str(path), tmp_path)


def test_study_asks_for_weights_and_takes_ones_own(tmp_path, monkeypatch):
  def nothing(spec, checkpoint):
    raise FileNotFoundError(spec.name)

  monkeypatch.setattr(study_binary, "find_checkpoint", nothing)
  cfg = study_config.study("s", ("vjepa_tiny", "raw_tiny"), seeds=(0,))()
  with pytest.raises(FileNotFoundError, match=r"configs/pretrain/vjepa_tiny"):
    study_binary.plan(cfg, "s.py", tmp_path)
  (tmp_path / "vjepa_tiny.safetensors").touch()
  cfg.weights = str(tmp_path)
  runs = study_binary.plan(cfg, "s.py", tmp_path)
  assert runs[0].command[-2:] == [
    f"--config.backbone.checkpoint={tmp_path / 'vjepa_tiny.safetensors'}",
    "--config.backbone.random_init=False",
  ]
  assert not any("checkpoint" in flag for flag in runs[1].command)
  cfg.weights, cfg.allow_random = "", True
  runs = study_binary.plan(cfg, "s.py", tmp_path)
  assert runs[0].command[-1] == "--config.backbone.random_init=True"


def test_the_papers_study_needs_weights_and_data_by_task(tmp_path):
  path = ROOT / "configs" / "study_paper.py"
  cfg = _get_config(path)()
  cells = study_config.cell_names(cfg)
  assert len(cells) == 11 * 4
  cell = _get_config(path)("4ds_e_points-0")
  assert cell.backbone.name == "4ds_e" and cell.tasks == ("points",)
  assert cell.data.eval_name == "perception_test"
  cfg.only, cfg.weights = ("4ds_e_depth-0",), str(tmp_path)
  (tmp_path / "scaling4d_e.npz").touch()
  with pytest.raises(ValueError, match=r"data\.depth"):
    study_binary.plan(cfg, str(path), tmp_path)
  cfg.data.depth, cfg.flags = "/scannet", ("--config.train.fsdp=8",)
  (run,) = study_binary.plan(cfg, str(path), tmp_path)
  assert run.command[-4:] == [
    f"--config.backbone.checkpoint={tmp_path / 'scaling4d_e.npz'}",
    "--config.backbone.random_init=False",
    "--config.data.path=/scannet",
    "--config.train.fsdp=8",
  ]
  cfg.only, cfg.data.points = ("4ds_e_points-0",), "/movi,/perception"
  (run,) = study_binary.plan(cfg, str(path), tmp_path)
  assert run.command[-3:-1] == [
    "--config.data.path=/movi",
    "--config.data.eval_path=/perception",
  ]
  smoke = _get_config(path)("smoke")
  runs = study_binary.plan(smoke, f"{path}:smoke", tmp_path)
  assert len(runs) == 44 and "path" not in str(runs[0].command[5:])


def test_study_runs_its_cells_and_reports(tmp_path, monkeypatch, capsys):
  """Killed in the middle, it goes on where it stopped."""
  fails = {"raw_tiny-1"}
  started = _fake_start(monkeypatch, fails)

  def fake_plan(cfg, path, workdir):
    cells = cfg.only or study_config.cell_names(cfg)
    return [
      run_queue.Run(workdir / "cells" / cell, ["x", path, cell])
      for cell in cells
    ]

  reported = []
  monkeypatch.setattr(study_binary, "plan", fake_plan)
  monkeypatch.setattr(
    study_binary.page,
    "write_comparison",
    lambda folders, output, notes: reported.append(
      ([f.name for f in folders], notes)
    ),
  )
  cfg = study_config.study("s", ("raw_tiny",), seeds=(0, 1, 2))()
  assert study_binary.run(cfg, "s.py", tmp_path) == 3
  left = "not finished: raw_tiny-1, raw_tiny-2"
  assert reported == [(["raw_tiny-0"], [left])]
  fails.clear()
  assert study_binary.run(cfg, "s.py", tmp_path) == 0
  assert started == ["raw_tiny-0", "raw_tiny-1", "raw_tiny-1", "raw_tiny-2"]
  assert reported[1] == (["raw_tiny-0", "raw_tiny-1", "raw_tiny-2"], [])
  cfg.only = ("raw_tiny-1",)
  study_binary.run(cfg, "s.py", tmp_path, report_only=True)
  assert len(started) == 4 and reported[2] == reported[1]


def _without_weights(monkeypatch, *names):
  """Makes it look as if some backbones had no weights in the package."""

  def find(spec, checkpoint):
    if spec.name in names:
      raise FileNotFoundError(f"no weights for {spec.name}: none released")

  monkeypatch.setattr(study_binary, "find_checkpoint", find)


def test_study_names_all_models_without_weights(tmp_path, monkeypatch, capsys):
  """Two of eight families: both in the error, or left out and named."""
  _without_weights(monkeypatch, "walt_tiny", "siglip_tiny")
  path = ROOT / "configs" / "study_tiny.py"
  cfg = _get_config(path)()
  with pytest.raises(FileNotFoundError) as error:
    study_binary.plan(cfg, str(path), tmp_path)
  for recipe in ("siglip_tiny", "walt_tiny_tokenizer", "walt_tiny"):
    assert f"--config=configs/pretrain/{recipe}.py" in str(error.value)
  assert "vjepa" not in str(error.value)
  assert "--config.skip_missing=True" in str(error.value)
  cfg.skip_missing = True
  runs = study_binary.plan(cfg, str(path), tmp_path)
  missing = {"walt_tiny", "siglip_tiny"}
  expected = [
    cell
    for cell in study_config.cell_names(cfg)
    if cell.rpartition("-")[0] not in missing
  ]
  assert [run.workdir.name for run in runs] == expected
  assert len(expected) == (len(cfg.models) - 2) * 3

  # It goes on with the others; what is left out is told, in the report too.
  reported = []
  monkeypatch.setattr(
    study_binary.page, "write_comparison", lambda *args: reported.append(args)
  )
  _fake_start(monkeypatch)
  cfg.only = ("siglip_tiny-0", "raw_tiny-0")
  assert study_binary.run(cfg, str(path), tmp_path) == 0
  assert "left out: no weights for siglip_tiny" in capsys.readouterr().out
  ((folders, _, notes),) = reported
  assert [folder.name for folder in folders] == ["raw_tiny-0"]
  assert len(notes) == 3 and "4ds_tiny-0" in notes[2]
  assert sum("no weights for walt_tiny" in note for note in notes) == 1


def test_what_others_lack_does_not_stop_the_report(tmp_path, monkeypatch):
  """Only one cell was asked for; other models have neither weights nor data."""
  _fake_start(monkeypatch)
  reported = []
  monkeypatch.setattr(
    study_binary.page, "write_comparison", lambda *args: reported.append(args)
  )
  path = ROOT / "configs" / "study_paper.py"
  cfg = _get_config(path)()
  cfg.only, cfg.weights = ("4ds_e_depth-0",), str(tmp_path)
  cfg.data.depth = "/scannet"
  (tmp_path / "scaling4d_e.npz").touch()
  assert study_binary.run(cfg, str(path), tmp_path) == 0
  assert [folder.name for folder in reported[0][0]] == ["4ds_e_depth-0"]
  # The weights may be gone when the report is asked for.
  cfg.weights = ""
  assert study_binary.run(cfg, str(path), tmp_path, report_only=True) == 0
  assert reported[1][0] == reported[0][0]


def test_recipes_are_those_of_the_folder():
  """Each names the backbone that it is for; together they are all tiny ones."""
  folder = ROOT / "configs" / "pretrain"
  found = {}
  for path in folder.glob("*_tiny*.py"):
    found.setdefault(_get_config(path)().backbone, set()).add(path.stem)
  assert found == {
    name: set(recipes) for name, recipes in study_binary.RECIPES.items()
  }
  for name, recipes in study_binary.RECIPES.items():
    assert recipes[-1] == name
    text = str(_get_config(folder / f"{name}.py")().objective)
    # What is read by the last was made by those before.
    assert all(f"runs/pretrain_{first}/" in text for first in recipes[:-1])


def test_weights_are_found_where_pretraining_leaves_them(tmp_path, monkeypatch):
  _without_weights(monkeypatch, "vjepa_tiny")
  cfg = study_config.study("s", ("vjepa_tiny",), seeds=(0,))()
  cfg.weights = str(tmp_path)
  path = tmp_path / "pretrain_vjepa_tiny" / "vjepa_tiny.safetensors"
  path.parent.mkdir()
  path.touch()
  (run,) = study_binary.plan(cfg, "s.py", tmp_path)
  assert f"--config.backbone.checkpoint={path}" in run.command


def test_parts_of_a_study_have_each_run_once():
  items = list("abcdefg")
  parts = [run_queue.shard(items, f"{k}/3") for k in (1, 2, 3)]
  assert sorted(itertools.chain(*parts)) == items
  assert max(map(len, parts)) - min(map(len, parts)) <= 1
  for wrong in ("0/3", "4/3", "3", "a/b", "1/0"):
    with pytest.raises(ValueError, match="such as 1/4"):
      run_queue.shard(items, wrong)


def test_hosts_share_a_study_by_models():
  """Seeds of a model share its latents, which no two hosts may make."""
  get_config = _get_config(ROOT / "configs" / "study_tiny.py")
  seen = []
  for part in ("1/2", "2/2"):
    cfg = get_config()
    study_binary.take_part(cfg, part)
    models = {cell.rpartition("-")[0] for cell in cfg.only}
    assert len(cfg.only) == 3 * len(models)
    seen.append(models)
  assert not seen[0] & seen[1] and seen[0] | seen[1] == set(cfg.models)
  cfg.only = ("4ds_tiny-0",)
  with pytest.raises(ValueError, match="no cells"):
    study_binary.take_part(cfg, "2/2")


def test_cells_of_a_study_of_settings_differ_in_these_alone():
  get_config = _get_config(ROOT / "configs" / "study_forecaster.py")
  cfg = get_config()
  assert cfg.models[0] == "reference" and cfg.seeds == (0, 1, 2)
  reference = get_config("reference-1")
  validation.validate(reference)
  names = {reference.name}
  for label in cfg.models[1:]:
    for variant in (f"{label}-1", f"smoke,{label}-1"):
      cell = get_config(variant)
      validation.validate(cell)
      assert cell.seed == 1 and cell.tasks == ("points", "boxes")
    cell = get_config(f"{label}-1")
    names.add(cell.name)
    assert cell != reference
    for section in ("data", "readout", "train", "eval", "latents"):
      assert cell[section] == reference[section]
  assert len(names) == len(cfg.models)


def test_settings_of_the_forecaster_share_the_first_ones_readouts(tmp_path):
  get_config = study_config.settings_study(
    "s",
    "4ds_tiny",
    {
      "default": {},
      "shift": {"forecaster.flow.shift": "1.0"},
      "wide": {"readout.width": 64, "forecaster.model.width": 64},
    },
    seeds=(0, 1),
  )
  runs = study_binary.plan(get_config(), "s.py", tmp_path)
  taken = {
    run.workdir.name: [flag for flag in run.command if "from_run" in flag]
    for run in runs
  }
  assert taken == {
    "default-0": [],
    "shift-0": [f"--config.readout.from_run={tmp_path / 'cells/default-0'}"],
    "wide-0": [],
    "default-1": [],
    "shift-1": [f"--config.readout.from_run={tmp_path / 'cells/default-1'}"],
    "wide-1": [],
  }


def test_runs_at_a_time_do_not_share_an_accelerator(monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "")
  found = subprocess.CompletedProcess([], 0, "gpu\n")
  monkeypatch.setattr(study_binary.subprocess, "run", lambda *_, **__: found)
  study_binary.check_workers(1)
  with pytest.raises(ValueError, match=r"--workers=2.*gpu.*--workers=1"):
    study_binary.check_workers(2)
  found.stdout = "cpu\n"
  study_binary.check_workers(2)


def test_dependent_cells_come_after_those_they_need(tmp_path):
  get_config = study_config.settings_study(
    "s", "4ds_tiny", {"a": {}, "b": {"forecaster.steps": 7}}, seeds=(0,)
  )
  first, second = study_binary.plan(get_config(), "s.py", tmp_path)
  assert first.after == () and second.after == (first.workdir,)
