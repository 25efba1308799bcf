r"""Binary: the paper's grid, backbones x tasks x seeds, and its report.

python -m forecasting.study --config=configs/study_tiny.py

Cells run one after another, each a process of `forecasting.main` in its own
folder below --workdir (default runs/<study name>); simulated clips and the
latents of each backbone are shared. Kill it and run it again: finished cells
are skipped, the one that was running resumes. The report of whatever is
finished is written at the end, and every time with --report_only.

To spread a study over hosts that share a file system, give each its cells:

  python -m forecasting.study --config=configs/study_tiny.py \
    --config.only='("4ds_tiny-0", "vjepa_tiny-0")'

or run the commands that --dry_run prints wherever you like.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from forecasting.backbones.encode import find_checkpoint
from forecasting.backbones.zoo import get_spec
from forecasting.report import page
from forecasting.run_queue import Run, execute_all, is_done
from forecasting.study_config import cell_names


def plan(cfg: ConfigDict, config_path: str, workdir: Path) -> list[Run]:
  """Makes the command of every chosen cell.

  Args:
    cfg: of the study.
    config_path: of the study's file, `:smoke` included.
    workdir: of the study.

  Returns:
    The runs.

  Raises:
    ValueError: `models` or `only` name what the study does not have, or the
      folder of a data set is missing.
    FileNotFoundError: a backbone has no weights and may not run without.
  """
  cells = cell_names(cfg)
  if strange := sorted(set(cfg.models) - set(cfg.needs)):
    raise ValueError(
      f"models: there is no {strange[0]!r}; this study has"
      f" {', '.join(cfg.needs)}"
    )
  if unknown := sorted(set(cfg.only) - set(cells)):
    raise ValueError(
      f"only: there is no cell {unknown[0]!r}; the cells are {', '.join(cells)}"
    )
  path, _, variant = config_path.partition(":")
  runs = []
  for cell in cfg.only or cells:
    needs = cfg.needs[cell.rpartition("-")[0]]
    folder = workdir / "cells" / cell
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
      *cfg.flags,
    ]
    runs.append(Run(folder, command))
  return runs


def _weights(cfg: ConfigDict, backbone: str) -> list[str]:
  """Returns the flags that choose a backbone's weights."""
  if not backbone:
    return []
  spec = get_spec(backbone)
  for file in (f"{backbone}.safetensors", spec.checkpoint):
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
    how = str(error)
    if backbone.endswith("_tiny"):
      how = (
        f"pretrain it with\n  python -m forecasting.pretrain"
        f" --config=configs/pretrain/{backbone}.py"
        f" --workdir=runs/pretrain_{backbone}"
      )
    raise FileNotFoundError(
      f"no weights for {backbone}: {how}\nThen set --config.weights to a"
      " folder with the file, or leave the model out of --config.models."
    ) from None
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


def report(runs: Sequence[Run], workdir: Path) -> Path | None:
  """Writes the report of the cells that are finished.

  Args:
    runs: of the study.
    workdir: of the study.

  Returns:
    Its path; None if no cell is finished.
  """
  finished = [run.workdir for run in runs if is_done(run)]
  if not finished:
    return None
  return page.write_comparison(finished, workdir)


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
    0, or the exit code of the cell that failed.
  """
  runs = plan(cfg, config_path, workdir)
  code = 0 if report_only else execute_all(runs)
  everything = cfg.copy_and_resolve_references()
  everything.only = ()
  if path := report(plan(everything, config_path, workdir), workdir):
    print(f"report: {path}")
  return code


def main(argv: Sequence[str]) -> int:
  """Parses flags and runs."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  cfg = _CONFIG.value
  path = config_flags.get_config_filename(flags.FLAGS["config"])
  workdir = Path(_WORKDIR.value or Path("runs") / cfg.name)
  if _DRY_RUN.value:
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
  _DRY_RUN = flags.DEFINE_bool("dry_run", False, "Only print the commands.")
  _REPORT_ONLY = flags.DEFINE_bool(
    "report_only", False, "Only write the report of what is finished."
  )
  flags.mark_flag_as_required("config")
  # Libraries log every file they touch; --verbosity=0 shows it.
  logging.set_verbosity(logging.WARNING)
  app.run(main)
