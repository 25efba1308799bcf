r"""Binary: scores the newest checkpoint of a run, and the baselines beside it.

python -m forecasting.eval --config=configs/quickstart.py \
  --workdir=runs/quickstart

Gives the numbers that `main` gave for the same checkpoint, since both call one
evaluator; with --config.eval.* it scores with other settings. Runs in any
number of processes, whatever number trained.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from forecasting import main as main_lib
from forecasting.training import distributed, preemption


def run(config: ConfigDict, workdir: Path) -> Path | None:
  """Scores the newest checkpoint of a workdir.

  Args:
    config: of the run that trained it, but for what may change
      (`same_run.MAY_CHANGE`).
    workdir: of that run.

  Returns:
    Path of the report; None in other processes than the first.

  Raises:
    ValueError, OSError: as `main.opened`.
    FileNotFoundError: a checkpoint, weights or latents are missing.
  """
  with main_lib.opened(config, workdir) as run_:
    return main_lib.evaluate(run_, workdir)


def main(argv: Sequence[str]) -> None:
  """Parses flags and evaluates."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  preemption.exit_when_terminated()
  distributed.initialize()
  config = _CONFIG.value
  workdir = main_lib.default_workdir(config, _WORKDIR.value)
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
