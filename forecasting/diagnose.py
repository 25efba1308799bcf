"""Binary: what can be known about a run before, or after, it is trained.

python -m forecasting.diagnose sampler --config=configs/quickstart.py
python -m forecasting.diagnose leak --config=configs/quickstart.py
python -m forecasting.diagnose probe --config=configs/quickstart.py
python -m forecasting.diagnose calibration --config=configs/quickstart.py \
  --workdir=runs/quickstart

`sampler` prints what share of the spread of the future a sampler returns if the
network is exact, for the config's own and for others to compare with. `leak`
checks that the context latents do not see the future, and exits with 1 if they
do. `probe` says what a linear regression reads off single latent tokens, with
the config's weights and with random ones. `calibration` says of a trained run
how much of the variance that its forecasts lack is due to the sampler, to the
forecaster and to the readout; it samples with 255 calls, so
`--config.data.eval_clips=64` saves time. `python -m forecasting.report W` then
shows it in the run's report.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from forecasting import calibration, validation
from forecasting import main as main_lib
from forecasting.backbones.zoo import get_spec
from forecasting.forecaster import diagnose
from forecasting.forecaster.schedule import resolve_shift
from forecasting.latents import leakcheck, probe

# Beside the config's own: name, grid, steps, shift.
_OTHERS = (
  ("dpmpp_2m", "logsnr", 16, 1.0),
  ("heun", "logsnr", 16, 1.0),
  ("euler", "logsnr", 64, 1.0),
  ("euler", "uniform", 50, 1.0),
  ("euler", "shifted", 50, 6.9),
  ("ancestral", "shifted", 50, 22.9),
)


def sampler_report(sampler: ConfigDict) -> str:
  """Returns a table of the spread that samplers keep.

  Args:
    sampler: `config.forecaster.sampler`.
  """
  stds = diagnose.DEFAULT_STDS
  names = "".join(f"  s = {std:<5g}" for std in stds)
  lines = [
    "Spread of the samples over that of the data, for an exact network and",
    "data whose standard deviation given the context is s; 1.00 is right.",
    "",
    f"{'sampler':<32}{'calls':>6}{names}",
  ]
  others = [dict(zip(("name", "grid", "steps", "shift"), o)) for o in _OTHERS]
  for label, changes in (
    ("yours: ", {}),
    *(("", change) for change in others),
  ):
    cfg = ConfigDict(sampler.to_dict() | changes)
    calls, shares = diagnose.num_calls(cfg), diagnose.spread_table(cfg)
    shift = f" {cfg.shift:g}" if cfg.grid == "shifted" else ""
    title = f"{label}{cfg.name}, {cfg.grid}{shift}, {cfg.steps}"
    cells = "".join(f"  {shares[std]:<9.2f}" for std in stds)
    lines.append(f"{title:<32}{calls:>6}{cells}".rstrip())
  return "\n".join(lines)


def levels_report(config: ConfigDict) -> str:
  """Returns how well training and sampling agree on noise levels.

  Args:
    config: of a run.
  """
  forecaster, spec = config.forecaster, get_spec(config.backbone.name)
  slots, rows, columns = spec.grid
  future = slots - slots * config.data.num_context // config.data.num_frames
  shift = resolve_shift(
    forecaster.flow.shift, future, rows * columns, spec.width
  )
  calls = diagnose.num_calls(forecaster.sampler)
  rare = diagnose.untrained_calls(forecaster.sampler, shift)
  text = (
    f"Training draws noise levels shifted by {shift:.3g}: {rare} of {calls}"
    " calls are at levels that less than one draw in 1000 goes below."
  )
  is_blind = forecaster.flow.prediction == "x0" and not (
    forecaster.flow.even_share
  )
  if rare and is_blind:
    text += (
      "\nWhat the network says there is extrapolated."
      " forecaster.flow.even_share trains these levels;\n"
      "forecaster.flow.prediction='edm' reads the data off its input there."
    )
  return text


def main(argv: Sequence[str]) -> None:
  """Runs one diagnosis."""
  config = _CONFIG.value
  if list(argv[1:]) == ["sampler"]:
    print(sampler_report(config.forecaster.sampler))
    print(f"\n{levels_report(config)}")
  elif list(argv[1:]) == ["leak"]:
    sys.exit(not leakcheck.report(config))
  elif list(argv[1:]) == ["probe"]:
    workdir = main_lib.default_workdir(config, _WORKDIR.value)
    print(probe.report(config, workdir))
  elif list(argv[1:]) == ["calibration"]:
    if not _WORKDIR.value:
      raise app.UsageError("calibration needs --workdir of a trained run")
    validation.validate(config)
    print(calibration.report(calibration.measure(config, Path(_WORKDIR.value))))
  else:
    raise app.UsageError(
      f"unexpected arguments {' '.join(argv[1:])!r}: 'sampler', 'leak',"
      " 'probe' or 'calibration'"
    )


if __name__ == "__main__":
  _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
  _WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; `calibration` needs it trained."
  )
  flags.mark_flag_as_required("config")
  app.run(main)
