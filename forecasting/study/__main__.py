r"""Binary: the paper's grid, backbones x tasks x seeds, and its report.

python -m forecasting.study --config=configs/study_tiny.py

Cells run one after another, or --workers=N at a time on the cores of one
machine, each a process of `forecasting.main` in its own folder below --workdir
(default runs/<study name>); simulated clips and the latents of each backbone
are shared. Kill it and run it again: finished cells are skipped, those that
were running died with it and resume. The report of whatever is finished is
written at the end, and every time with --report_only.

A cell is its resolved config and the content of its weights' file. If one of
these has changed since it ran, the study says which and stops before it starts
anything; it never mixes.

Weights that are missing stop the study before it starts, with the commands that
would make them; --config.skip_missing=True goes on with the other models and
names what was left out, here and in the report. A cell that fails stops the
study, unless --config.keep_going=True.

To spread a study over hosts that share a file system, give each a part of the
models:

  python -m forecasting.study --config=configs/study_tiny.py --shard=1/4

or cells by name, as in --config.only='("4ds_tiny-0", "vjepa_tiny-0")', or run
the commands that --dry_run prints wherever you like. In a study of settings,
the first model's cells train the readouts of the others: they come first, on
one machine by themselves, on several by your doing.
"""

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from forecasting.backbones.encode import find_checkpoint
from forecasting.backbones.zoo import get_spec
from forecasting.frames.one_writer import one_writer
from forecasting.report import page
from forecasting.study.config import cell_names
from forecasting.study.identity import identify
from forecasting.study.queue import (
  Run,
  differences,
  execute_all,
  has_finished,
  is_done,
  shard,
)

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
  return [
    _cell_run(cfg, config_path, workdir, cell)
    for cell in chosen
    if _model(cell) not in missing
  ]


def _cell_run(
  cfg: ConfigDict, config_path: str, workdir: Path, cell: str
) -> Run:
  """Makes the command of a cell; see `plan`."""
  path, _, variant = config_path.partition(":")
  needs, folder = cfg.needs[_model(cell)], cell_folder(workdir, cell)
  readouts = _readouts_folder(workdir, cell, needs.readouts)
  arguments = [
    f"--config={path}:{variant + ',' if variant else ''}{cell}",
    f"--workdir={folder}",
    f"--config.data.root={workdir / 'data'}",
    f"--config.latents.root={workdir / 'latents'}",
    # Seeds, and latents of one shape, run the same programs.
    f"--config.compiled={workdir / 'compiled'}",
    *_weights(cfg, needs.backbone),
    *_data(cfg, needs.task),
    *(f"--config.readout.from_run={other}" for other in readouts),
    *cfg.flags,
  ]
  return Run(
    folder,
    [sys.executable, "-m", "forecasting.main", *arguments],
    functools.partial(identify, arguments),
    readouts,
  )


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


def _readouts_folder(workdir: Path, cell: str, model: str) -> tuple[Path, ...]:
  """Returns the folder of the cell whose readouts another takes, if any."""
  if not model:
    return ()
  return (cell_folder(workdir, f"{model}-{cell.rpartition('-')[2]}"),)


def report(cfg: ConfigDict, config_path: str, workdir: Path) -> Path | None:
  """Writes the report of the cells that are finished, whoever ran them.

  Args:
    cfg: of the study.
    config_path: of its file, `:smoke` included.
    workdir: of the study.

  Returns:
    Its path; None if no cell is finished.
  """
  cells = cell_names(cfg)
  if not any(has_finished(cell_folder(workdir, cell)) for cell in cells):
    return None
  # Whoever writes last has seen all that the others have.
  with one_writer(workdir, "the report", "--workdir"):
    finished = [c for c in cells if has_finished(cell_folder(workdir, c))]
    left = [cell for cell in cells if cell not in finished]
    missing = missing_weights(cfg, _models(left))
    notes = describe(missing)
    if late := [cell for cell in left if _model(cell) not in missing]:
      notes.append(f"not finished: {', '.join(late)}")
    folders = []
    for cell in finished:
      if different := _stale(cfg, config_path, workdir, cell):
        lines = "\n  ".join(different)
        notes.append(f"left out, as {cell} was run otherwise:\n  {lines}")
      else:
        folders.append(cell_folder(workdir, cell))
    if not folders:
      print("\n".join(["no report:", *notes]))
      return None
    return page.write_comparison(folders, workdir, notes)


def _stale(
  cfg: ConfigDict, config_path: str, workdir: Path, cell: str
) -> list[str]:
  """Says what has changed since a cell ran, as far as that can be known."""
  try:
    return differences(_cell_run(cfg, config_path, workdir, cell))
  except (FileNotFoundError, ValueError):  # Its weights or data are not here.
    return []


def check_workers(workers: int) -> None:
  """Raises ValueError if runs side by side would fight for an accelerator."""
  if workers == 1 or os.environ.get("JAX_PLATFORMS") == "cpu":
    return
  # Another process finds out: this one would keep the devices to itself.
  code = "import jax; print(jax.default_backend())"
  found = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  ).stdout.strip()
  if found != "cpu":
    raise ValueError(
      f"--workers={workers}: runs at one time would share this machine's"
      f" devices ({found}); set --workers=1 here and spread the study over"
      " machines with --shard, or use the CPU alone with JAX_PLATFORMS=cpu"
    )


def run(
  cfg: ConfigDict,
  config_path: str,
  workdir: Path,
  report_only: bool = False,
  workers: int = 1,
) -> int:
  """Runs what is not done yet and writes the report.

  Args:
    cfg: of the study.
    config_path: of its file, `:smoke` included.
    workdir: holds all it reads and writes.
    report_only: whether to run nothing.
    workers: cells that run at a time.

  Returns:
    0, or the exit code of the last cell that failed.
  """
  check(cfg)
  code = 0
  if not report_only:
    check_workers(workers)
    runs = plan(cfg, config_path, workdir)
    _print_missing(cfg)
    code = execute_all(runs, cfg.keep_going, workers)
  if path := report(cfg, config_path, workdir):
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
  return run(cfg, path, workdir, _REPORT_ONLY.value, _WORKERS.value)


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
  _WORKERS = flags.DEFINE_integer(
    "workers", 1, "Cells that run here at a time, on a CPU.", lower_bound=1
  )
  flags.mark_flag_as_required("config")
  # Libraries log every file they touch; --verbosity=0 shows it.
  logging.set_verbosity(logging.WARNING)
  app.run(main)
