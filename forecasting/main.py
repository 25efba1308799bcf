r"""Binary: trains readouts and forecasters, scores them, writes the report.

python -m forecasting.main --config=configs/quickstart.py

Everything is kept under --workdir (default runs/<config name>): data, latents,
checkpoints, `metrics.jsonl`, `results.jsonl`, `report.html`. Running the same
command again resumes where it stopped. Several processes share one run
(`training/distributed.py`).
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from forecasting import experiment, same_run, validation
from forecasting.latents import pipeline
from forecasting.report import page, results
from forecasting.samples.panels import Panels
from forecasting.training import (
  allocation,
  checkpoint,
  distributed,
  loop,
  mesh,
  preemption,
  steps,
)
from forecasting.training import workdir as workdir_lib


@contextlib.contextmanager
def opened(
  config: ConfigDict, workdir: Path
) -> Iterator[experiment.Experiment]:
  """Checks a config, holds its workdir and opens its latents.

  Args:
    config: of the run.
    workdir: of the run; also scoring writes there what training does at its
      end: rows, panels, report.

  Yields:
    The experiment; no other run may enter the workdir meanwhile.

  Raises:
    ValueError: the config cannot run, or is not that of the checkpoints in
      the workdir; lists every problem.
    OSError: the workdir cannot be written, or another run is there.
    FileNotFoundError: weights or latents are missing.
  """
  validation.validate(config)
  same_run.check_config(config, workdir)
  validation.check_workdir(workdir)
  with workdir_lib.held(workdir):
    allocation.keep_freed_memory()
    steps.enable_compilation_cache(config.compiled, workdir)
    yield experiment.open_experiment(config, workdir)


def run(config: ConfigDict, workdir: Path) -> Path | None:
  """Runs everything that a config describes.

  Args:
    config: of the run.
    workdir: holds all it reads and writes.

  Returns:
    Path of the report; None in other processes than the first.

  Raises:
    ValueError, OSError, FileNotFoundError: as `opened`.
    FloatingPointError: a loss is not finite.
  """
  with opened(config, workdir) as run_:
    # Not before: it says what the checkpoints beside it were trained with.
    if jax.process_index() == 0:
      same_run.save_config(config, workdir)
    train(run_, workdir)
    return evaluate(run_, workdir)


def train(run_: experiment.Experiment, workdir: Path) -> None:
  """Trains all readouts and forecasters side by side, or resumes."""
  config = run_.config
  same_run.save_latents(run_.stores["train"], workdir)
  batches = pipeline.train_batches(
    run_.stores["train"],
    config.train.batch_size,
    config.seed,
    run_.batch_keys(),
  )
  loop.fit(
    run_.trainees(),
    batches,
    workdir=workdir,
    seed=config.seed,
    mesh=mesh.make_mesh(config.train.fsdp),
    log_every=config.train.log_every,
    checkpoint_every=config.train.checkpoint_every,
    keep=config.train.keep,
    keep_every=config.train.keep_every,
    profile_steps=config.train.profile_steps,
    tensorboard=config.train.tensorboard,
  )


def evaluate(run_: experiment.Experiment, workdir: Path) -> Path | None:
  """Scores the newest checkpoint of a workdir and writes its report.

  Several processes share the scoring; the first one writes.

  Args:
    run_: the experiment.
    workdir: of the run.

  Returns:
    Path of the report; None in other processes than the first.
  """
  distributed.wait_for_all("checkpoints are on disk")
  step, params = checkpoint.restore_ema(workdir)
  panels = Panels(run_.config.eval.num_panels, run_.config.data.num_context)
  for row in run_.evaluate(params, step, panels):
    results.write_rows(workdir / results.FILE, [row])
    _announce(row)
  report = None
  if jax.process_index() == 0:
    panels.write(workdir / "panels")
    report = page.write_report(workdir)
  distributed.wait_for_all("report is written")
  return report


def default_workdir(config: ConfigDict, workdir: str | None) -> Path:
  """Returns the folder of a run: `runs/<config name>` if none is named."""
  return Path(workdir) if workdir else Path("runs") / config.name


def _announce(row: results.Row) -> None:
  names = ("mean", "best", "fd_1", "energy_score")
  numbers = " ".join(f"{name}={results.score(row, name):.4g}" for name in names)
  print(f"{row['task']} {row['forecaster']}: {row['metric']} {numbers}")
  if broken := results.nonfinite(row):
    print(
      f"WARNING: {row['task']}: forecasts that are not finite (NaN or"
      f" infinite): {broken}; scores that would use them have no value"
    )


def main(argv: Sequence[str]) -> None:
  """Parses flags and runs."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  preemption.exit_when_terminated()
  distributed.initialize()
  config = _CONFIG.value
  print(f"devices: {jax.devices()}")
  workdir = default_workdir(config, _WORKDIR.value)
  if report := run(config, workdir):
    print(f"report: {report}")


if __name__ == "__main__":
  _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
  _WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; default runs/<config name>."
  )
  flags.mark_flag_as_required("config")
  # Libraries log every file they touch; --verbosity=0 shows it.
  logging.set_verbosity(logging.WARNING)
  app.run(main)
