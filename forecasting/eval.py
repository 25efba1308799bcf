r"""Binary: scores the newest checkpoint of a run, and the baselines beside it.

python -m forecasting.eval --config=configs/quickstart.py \
  --workdir=runs/quickstart

Gives the numbers that `main` gave for the same checkpoint, since both call one
evaluator; with --config.eval.* it scores with other settings. Runs in any
number of processes, whatever number trained.
"""

from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from forecasting import experiment, validation
from forecasting import main as main_lib
from forecasting.training import distributed, preemption, steps
from forecasting.training import workdir as workdir_lib


def main(argv: Sequence[str]) -> None:
  """Parses flags and evaluates."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  preemption.exit_when_terminated()
  distributed.initialize()
  config = _CONFIG.value
  workdir = main_lib.default_workdir(config, _WORKDIR.value)
  validation.validate(config)
  validation.check_workdir(workdir)
  # It writes what training writes at its end: rows, panels, report.
  with workdir_lib.held(workdir):
    steps.enable_compilation_cache(config.compiled, workdir)
    run_ = experiment.open_experiment(config, workdir)
    report = main_lib.evaluate(run_, workdir)
  if report:
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
