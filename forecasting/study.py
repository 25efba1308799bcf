r"""Binary: the paper's grid, backbones x tasks x seeds, and its report.

python -m forecasting.study --config=configs/study_tiny.py

Cells run one after another, each a process of `forecasting.main` in its own
folder below --workdir (default runs/<study name>); simulated clips and the
latents of each backbone are shared. Kill it and run it again: finished cells
are skipped, the one that was running resumes. The report of whatever is
finished is written at the end, and every time with --report_only.

Weights that are missing stop the study before it starts, with the commands that
would make them; --config.skip_missing=True goes on with the other models and
names what was left out, here and in the report. A cell that fails stops the
study, unless --config.keep_going=True.

To spread a study over hosts that share a file system, give each a part of the
models:

  python -m forecasting.study --config=configs/study_tiny.py --shard=1/4

or cells by name, as in --config.only='("4ds_tiny-0", "vjepa_tiny-0")', or run
the commands that --dry_run prints wherever you like. In a study of settings,
the first model's cells train the readouts of the others: run those first.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from forecasting.backbones.encode import find_checkpoint
from forecasting.backbones.zoo import get_spec
from forecasting.report import page
from forecasting.run_queue import Run, execute_all, has_finished, is_done, shard
from forecasting.study_config import cell_names

# Files in configs/pretrain/ that make a backbone's weights, in order.
RECIPES = {
  name: (name,)
  for name in (
    *("4ds_tiny", "dinov2_tiny", "next_vid_tiny", "siglip_tiny"),
    *("videomae_tiny", "videomaev2_tiny", "vjepa_tiny"),
  )
} | {
  "videoprism_tiny": ("videoprism_tiny_text", "videoprism_tiny"),
  "walt_tiny": ("walt_tiny_tokenizer", "walt_tiny"),
}


def plan(cfg: ConfigDict, config_path: str, workdir: Path) -> list[Run]:
  """Makes the command of every chosen cell.

  Args:
    cfg: of the study.
    config_path: of the study's file, `:smoke` included.
    workdir: of the study.

  Returns:
    The runs; of models without weights none, if `skip_missing`.

  Raises:
    ValueError: `models` or `only` name what the study does not have, or the
      folder of a data set is missing.
    FileNotFoundError: backbones have no weights and may not run without.
  """
  check(cfg)
  chosen = cfg.only or cell_names(cfg)
  missing = missing_weights(cfg, _models(chosen))
  if missing and not cfg.skip_missing:
    raise FileNotFoundError(
      "\n".join(describe(missing))
      + "\nThen set --config.weights to the folder of the runs or of the files;"
      " or go on with the others by --config.skip_missing=True."
    )
  path, _, variant = config_path.partition(":")
  runs = []
  for cell in chosen:
    if _model(cell) in missing:
      continue
    needs = cfg.needs[_model(cell)]
    folder = cell_folder(workdir, cell)
    command = [
      *(sys.executable, "-m", "forecasting.main"),
      f"--config={path}:{variant + ',' if variant else ''}{cell}",
      f"--workdir={folder}",
      f"--config.data.root={workdir / 'data'}",
      f"--config.latents.root={workdir / 'latents'}",
      # Seeds, and latents of one shape, run the same programs.
      f"--config.compiled={workdir / 'compiled'}",
      *_weights(cfg, needs.backbone),
      *_data(cfg, needs.task),
      *_readouts(workdir, cell, needs.readouts),
      *cfg.flags,
    ]
    runs.append(Run(folder, command))
  return runs


def check(cfg: ConfigDict) -> None:
  """Raises ValueError if models or cells are none of the study's."""
  if strange := sorted(set(cfg.models) - set(cfg.needs)):
    raise ValueError(
      f"models: there is no {strange[0]!r}; this study has"
      f" {', '.join(cfg.needs)}"
    )
  cells = cell_names(cfg)
  if unknown := sorted(set(cfg.only) - set(cells)):
    raise ValueError(
      f"only: there is no cell {unknown[0]!r}; the cells are {', '.join(cells)}"
    )


def take_part(cfg: ConfigDict, part: str) -> None:
  """Leaves a part of the cells for this host in `only`.

  Parts are of models: seeds of one share latents, which one host should make.

  Args:
    cfg: of the study; changed.
    part: as in '2/4', the second of four.

  Raises:
    ValueError: `part` is not of this form, or has no cells.
  """
  models = shard(cfg.models, part)
  cells = cfg.only or cell_names(cfg)
  cfg.only = tuple(cell for cell in cells if _model(cell) in models)
  if not cfg.only:
    raise ValueError(f"shard {part!r} of {len(cfg.models)} models has no cells")


def missing_weights(cfg: ConfigDict, models: Sequence[str]) -> dict[str, str]:
  """Finds models that cannot run.

  Args:
    cfg: of the study.
    models: names of its models.

  Returns:
    Name of a model without weights to what would make them.
  """
  missing = {}
  for model in models:
    try:
      _weights(cfg, cfg.needs[model].backbone)
    except FileNotFoundError as error:
      missing[model] = str(error)
  return missing


def describe(missing: Mapping[str, str]) -> list[str]:
  """Returns a line, or several, on every model without weights."""
  return [f"no weights for {model}: {how}" for model, how in missing.items()]


def cell_folder(workdir: Path, cell: str) -> Path:
  """Returns where a cell of a study writes."""
  return workdir / "cells" / cell


def _model(cell: str) -> str:
  return cell.rpartition("-")[0]


def _models(cells: Sequence[str]) -> list[str]:
  """Returns the models of cells, each once."""
  return list(dict.fromkeys(map(_model, cells)))


def _weights(cfg: ConfigDict, backbone: str) -> list[str]:
  """Returns the flags that choose a backbone's weights.

  Raises:
    FileNotFoundError: there are none; says what would make them.
  """
  if not backbone:
    return []
  spec = get_spec(backbone)
  name = f"{backbone}.safetensors"
  for file in (name, f"pretrain_{backbone}/{name}", spec.checkpoint):
    own = Path(cfg.weights) / file
    if cfg.weights and file and own.exists():
      return [
        f"--config.backbone.checkpoint={own}",
        "--config.backbone.random_init=False",
      ]
  try:
    find_checkpoint(spec, None)
  except FileNotFoundError as error:
    if cfg.allow_random:
      return ["--config.backbone.random_init=True"]
    if backbone not in RECIPES:
      how = str(error).partition(": ")[2] or str(error)
      raise FileNotFoundError(how) from None
    commands = [
      f"  python -m forecasting.pretrain --config=configs/pretrain/{recipe}.py"
      f" --workdir=runs/pretrain_{recipe}"
      for recipe in RECIPES[backbone]
    ]
    raise FileNotFoundError("\n".join(["make them by", *commands])) from None
  return []


def _data(cfg: ConfigDict, task: str) -> list[str]:
  """Returns the flags that choose a task's data set.

  Raises:
    ValueError: it is not set.
  """
  if not task:
    return []
  if not cfg.data[task]:
    raise ValueError(
      f"data.{task} is empty; set --config.data.{task} to the folder of the"
      " data set"
    )
  path, _, eval_path = cfg.data[task].partition(",")
  flags = [f"--config.data.path={path}"]
  return flags + ([f"--config.data.eval_path={eval_path}"] if eval_path else [])


def _readouts(workdir: Path, cell: str, model: str) -> list[str]:
  """Returns the flags that take the readouts of another model's cell."""
  if not model:
    return []
  seed = cell.rpartition("-")[2]
  folder = cell_folder(workdir, f"{model}-{seed}")
  return [f"--config.readout.from_run={folder}"]


def report(cfg: ConfigDict, workdir: Path) -> Path | None:
  """Writes the report of the cells that are finished, whoever ran them.

  Args:
    cfg: of the study.
    workdir: of the study.

  Returns:
    Its path; None if no cell is finished.
  """
  cells = cell_names(cfg)
  finished = [c for c in cells if has_finished(cell_folder(workdir, c))]
  if not finished:
    return None
  left = [cell for cell in cells if cell not in finished]
  missing = missing_weights(cfg, _models(left))
  notes = describe(missing)
  if late := [cell for cell in left if _model(cell) not in missing]:
    notes.append(f"not finished: {', '.join(late)}")
  folders = [cell_folder(workdir, cell) for cell in finished]
  return page.write_comparison(folders, workdir, notes)


def run(
  cfg: ConfigDict, config_path: str, workdir: Path, report_only: bool = False
) -> int:
  """Runs what is not done yet and writes the report.

  Args:
    cfg: of the study.
    config_path: of its file, `:smoke` included.
    workdir: holds all it reads and writes.
    report_only: whether to run nothing.

  Returns:
    0, or the exit code of the last cell that failed.
  """
  check(cfg)
  code = 0
  if not report_only:
    runs = plan(cfg, config_path, workdir)
    _print_missing(cfg)
    code = execute_all(runs, cfg.keep_going)
  if path := report(cfg, workdir):
    print(f"report: {path}")
  return code


def _print_missing(cfg: ConfigDict, mark: str = "") -> None:
  """Names the models that the study goes on without."""
  chosen = _models(cfg.only or cell_names(cfg))
  for line in describe(missing_weights(cfg, chosen)):
    print(mark + f"left out: {line}".replace("\n", f"\n{mark}"), flush=True)


def main(argv: Sequence[str]) -> int:
  """Parses flags and runs."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  cfg = _CONFIG.value
  path = config_flags.get_config_filename(flags.FLAGS["config"])
  workdir = Path(_WORKDIR.value or Path("runs") / cfg.name)
  if _SHARD.value:
    take_part(cfg, _SHARD.value)
  if _DRY_RUN.value:
    _print_missing(cfg, "# ")
    for cell in plan(cfg, path, workdir):
      note = "# done: " if is_done(cell) else ""
      print(note + shlex.join(cell.command))
    return 0
  return run(cfg, path, workdir, _REPORT_ONLY.value)


if __name__ == "__main__":
  _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
  _WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the study; default runs/<study name>."
  )
  _SHARD = flags.DEFINE_string(
    "shard", None, "Part of the models to run here, as in 1/4."
  )
  _DRY_RUN = flags.DEFINE_bool("dry_run", False, "Only print the commands.")
  _REPORT_ONLY = flags.DEFINE_bool(
    "report_only", False, "Only write the report of what is finished."
  )
  flags.mark_flag_as_required("config")
  # Libraries log every file they touch; --verbosity=0 shows it.
  logging.set_verbosity(logging.WARNING)
  app.run(main)
