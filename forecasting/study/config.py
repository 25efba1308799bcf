"""Fields of a study and of its cells; `configs/study_tiny.py` is one call.

A cell is one model with one seed: a run of `forecasting.main`, whose config is
that of the study's file with the cell's name behind the colon.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from forecasting import config, presets
from forecasting.backbones.zoo import get_spec

_CELL = re.compile(r"(?:(smoke),)?(\w+)-(\d+)")


@dataclasses.dataclass(frozen=True)
class Model:
  """One row of a study's tables, or its part of one task.

  Attributes:
    name: letters, digits and `_`.
    backbone: whose weights it needs; empty if it needs none.
    task: whose data it needs; empty for embedded data.
    get_config: of its runs, but for the seed; takes '' or 'smoke'.
    readouts: the model whose cell of the same seed trains its readouts; empty:
      its own.
  """

  name: str
  backbone: str
  task: str
  get_config: Callable[[str], ConfigDict]
  readouts: str = ""


def study(
  name: str,
  backbones: Sequence[str],
  *,
  random: Sequence[str] = (),
  random_readouts: Sequence[str] = (),
  seeds: Sequence[int] = (0, 1, 2),
  overrides: Mapping[str, Any] | None = None,
  smoke: Mapping[str, Any] | None = None,
  smoke_models: Sequence[str] = (),
) -> Callable[..., ConfigDict]:
  """Returns the `get_config` of a study on embedded data, all tasks in a cell.

  Args:
    name: of the study.
    backbones: names of `backbones.zoo`, with pretrained weights if the family
      has weights at all.
    random: those that also run with random weights, as references.
    random_readouts: the same for references of perception alone, which train
      no forecaster.
    seeds: of readouts, forecasters and samples.
    overrides: dotted field to value, for every cell.
    smoke: the same for the variant `smoke` alone, beside `presets.SMOKE`.
    smoke_models: those of the variant `smoke`, random ones as
      `<backbone>_random`; empty: all.

  Returns:
    A function of the text behind the colon: empty or 'smoke' for the study,
    `<model>-<seed>` or `smoke,<model>-<seed>` for a cell.
  """

  def make(backbone: str, is_random: bool) -> Model:
    label = backbone + ("_random" if is_random else "")
    base = config.experiment(
      backbone, config.TASK_NAMES, name=f"{name}_{label}", overrides=overrides
    )
    base = _reduced(base, smoke)

    def get_config(variant: str) -> ConfigDict:
      cell = base(variant)
      with cell.unlocked():
        if is_random:
          cell.backbone.random_init = True
        if is_random and backbone in random_readouts:
          cell.forecasters, cell.baselines = (), ("oracle_future",)
        elif backbone.startswith("walt"):
          cell.baselines = ("native", *cell.baselines)
      return cell

    needs = not is_random and get_spec(backbone).family != "raw"
    return Model(label, backbone if needs else "", "", get_config)

  models = [make(backbone, False) for backbone in backbones]
  models += [make(backbone, True) for backbone in (*random, *random_readouts)]
  return _grid(name, models, seeds, smoke_models)


def settings_study(
  name: str,
  backbone: str,
  settings: Mapping[str, Mapping[str, Any]],
  *,
  tasks: Sequence[str] = config.TASK_NAMES,
  seeds: Sequence[int] = (0, 1, 2),
  overrides: Mapping[str, Any] | None = None,
  smoke: Mapping[str, Any] | None = None,
) -> Callable[..., ConfigDict]:
  """Returns the `get_config` of a study of settings, one in a cell.

  Those that differ from the first in the forecaster alone take its readouts.

  Args:
    name: of the study.
    backbone: a name of `backbones.zoo`.
    settings: label of letters, digits and `_` to dotted field to value; the
      report tells the others by their distance to the first.
    tasks: all in a cell.
    seeds: of readouts, forecasters and samples.
    overrides: dotted field to value, for every cell.
    smoke: the same for the variant `smoke` alone, beside `presets.SMOKE`.

  Returns:
    As `study`; models are the labels.
  """

  def make(label: str, changes: Mapping[str, Any]) -> Model:
    base = config.experiment(
      backbone,
      tuple(tasks),
      name=f"{name}_{label}",
      overrides={**(overrides or {}), **changes},
    )
    own = not changes or any(not f.startswith("forecaster.") for f in changes)
    readouts = "" if own else next(iter(settings))
    return Model(label, backbone, "", _reduced(base, smoke), readouts)

  models = [make(label, changes) for label, changes in settings.items()]
  return _grid(name, models, seeds)


def paper_study(
  name: str,
  models: Sequence[str] = tuple(presets.MODELS),
  tasks: Sequence[str] = config.TASK_NAMES,
  seeds: Sequence[int] = (0,),
) -> Callable[..., ConfigDict]:
  """Returns the `get_config` of the paper's study, one task in a cell.

  Args:
    name: of the study.
    models: names of `presets.MODELS`.
    tasks: their names; each has its own data.
    seeds: of readouts, forecasters and samples.

  Returns:
    As `study`; models are called `<model>_<task>`.
  """
  return _grid(
    name,
    [
      Model(
        f"{model}_{task}",
        presets.MODELS[model][0],
        task,
        config.paper_experiment(model, task),
      )
      for model in models
      for task in tasks
    ],
    seeds,
  )


def _reduced(
  get_config: Callable[[str], ConfigDict], smoke: Mapping[str, Any] | None
) -> Callable[[str], ConfigDict]:
  """Returns the same function, with a study's own changes to `smoke`."""

  def get_cell(variant: str) -> ConfigDict:
    cell = get_config(variant)
    if variant:
      with cell.unlocked():
        cell.update_from_flattened_dict(smoke or {})
    return cell

  return get_cell


def _grid(
  name: str,
  models: Sequence[Model],
  seeds: Sequence[int],
  smoke_models: Sequence[str] = (),
) -> Callable[..., ConfigDict]:
  """Returns the function behind `study` and `paper_study`."""
  by_name = {model.name: model for model in models}

  def get_config(variant: str = "") -> ConfigDict:
    match = _CELL.fullmatch(variant)
    if match and match[2] in by_name:
      cell = by_name[match[2]].get_config(match[1] or "")
      with cell.unlocked():
        cell.seed = int(match[3])
      return cell
    if variant not in ("", "smoke"):
      raise ValueError(
        f"unknown config variant {variant!r}: expected nothing, 'smoke' or a"
        f" cell as in {models[0].name}-{seeds[0]}; models:"
        f" {', '.join(by_name)}"
      )
    return ConfigDict(
      {
        "name": f"{name}_smoke" if variant else name,
        "models": tuple((variant and smoke_models) or by_name),
        "seeds": tuple(seeds[:1] if variant else seeds),
        # Names of cells, to run a part of the study on each of several hosts
        # that share --workdir. Empty: all.
        "only": (),
        # Folder with `<backbone>.safetensors`, the official file names, or the
        # runs of `forecasting.pretrain`; empty: the weights of the package.
        "weights": "",
        # Whether to leave out models without weights, and go on.
        "skip_missing": False,
        # Whether to go on with the next cell after one that failed.
        "keep_going": False,
        # Whether backbones without weights may run with random ones.
        "allow_random": bool(variant),
        # Folder of each task's data set, where it is not embedded; behind a
        # comma, that of other data to score on.
        "data": dict.fromkeys((m.task for m in models if m.task), ""),
        # More flags of every cell, such as "--config.train.fsdp=8".
        "flags": (),
        "needs": {
          model.name: {
            "backbone": "" if variant and model.task else model.backbone,
            "task": "" if variant else model.task,
            "readouts": model.readouts,
          }
          for model in models
        },
      }
    )

  return get_config


def cell_names(cfg: ConfigDict) -> list[str]:
  """Returns the cells of a study, all models of a seed before the next seed."""
  return [f"{model}-{seed}" for seed in cfg.seeds for model in cfg.models]


# Of one cell of a study of tiny backbones on two CPU cores: enough training to
# tell models apart, little enough for a dozen models and three seeds in a few
# hours. The clips and the latents of a model are shared by its cells.
TINY_CELL = {
  "data.train_clips": 1024,
  "data.held_out_clips": 0,
  "data.eval_clips": 192,
  "data.future_contexts": 0,
  "readout.steps": 500,
  "forecaster.steps": 500,
  "forecasters": ("flow", "regression"),
  "baselines": ("oracle_future",),
  "eval.num_panels": 1,
  "eval.bootstrap": 500,
  # Enough for percentiles; 14 s a cell, most of it for boxes.
  "eval.bootstrap_frechet": 200,
  # The tables of a study compare backbones as the paper does.
  "eval.dressing_clips": 0,
  "train.checkpoint_every": 250,
}
# To tell forecasters and settings of one apart: trained as in the quickstart.
FORECASTER_CELL = TINY_CELL | {
  "data.train_clips": 1152,
  "data.held_out_clips": 128,
  "readout.steps": presets.TINY["readout.steps"],
  "forecaster.steps": presets.TINY["forecaster.steps"],
  "eval.dressing_clips": 256,
}
SMOKE_CELL = {"data.future_contexts": 0, "data.eval_clips": 12}
