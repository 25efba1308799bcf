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

from forecasting import calibration, trial_build, validation
from forecasting import main as main_lib
from forecasting.forecaster import diagnose, registry
from forecasting.forecaster.ddpm import sampler_table as ddpm_table
from forecasting.forecaster.flow import sampler_table as flow_table
from forecasting.forecaster.sampler import SamplerTable
from forecasting.forecaster.schedule import resolve_shift
from forecasting.forecaster_config import sampler_config
from forecasting.latents import leakcheck, probe

# Forecasters that sample with a step rule on a grid of noise levels.
_SAMPLED = ("flow", "ddpm")
# To compare with: name, grid, steps, shift; all else is the default sampler's.
# Source: the table of forecaster.md 6.1.
_OTHERS = (
  ("dpmpp_2m", "logsnr", 16, 1.0),
  ("dpmpp_2m", "logsnr", 10, 1.0),
  ("dpmpp_2m", "logsnr", 32, 1.0),
  ("heun", "logsnr", 16, 1.0),
  ("euler", "logsnr", 64, 1.0),
  ("euler", "uniform", 50, 1.0),
  ("euler", "shifted", 50, 6.9),
  ("euler", "shifted", 50, 22.9),
  ("heun", "shifted", 50, 22.9),
  ("ancestral", "shifted", 50, 22.9),
)


def sampler_report(config: ConfigDict) -> str:
  """Returns a table of the spread that samplers keep.

  Args:
    config: of a run; the rows of its own samplers come first.
  """
  stds = diagnose.DEFAULT_STDS
  names = "".join(f"  s = {std:<5g}" for std in stds)
  lines = [
    "Spread of the samples over that of the data, for an exact network and",
    "data whose standard deviation given the context is s; 1.00 is right.",
    "t_min is the last noise level at which the network is called.",
    "",
    f"{'sampler':<38}{'calls':>6}{'t_min':>10}{names}".rstrip(),
  ]
  cfg = config.forecaster
  rows: list[tuple[str, SamplerTable]] = []
  if "flow" in config.forecasters:
    title = f"yours: flow, {_title(cfg.sampler)}"
    rows.append((title, flow_table(cfg.sampler)))
  if "ddpm" in config.forecasters:
    title = f"yours: ddpm, {cfg.ddpm.sampler}, cosine, {cfg.ddpm.steps}"
    rows.append((title, ddpm_table(cfg.ddpm)))
  for other in _OTHERS:
    # Never the config's own ends: a row says what the reference says.
    sampler = sampler_config()
    sampler.update(dict(zip(("name", "grid", "steps", "shift"), other)))
    rows.append((_title(sampler), flow_table(sampler)))
  for title, table in rows:
    shares = diagnose.spread(table, stds)
    cells = "".join(f"  {shares[std]:<9.2f}" for std in stds)
    line = f"{title:<38}{len(table.times):>6}{table.times.min():>10.3g}{cells}"
    lines.append(line.rstrip())
  return "\n".join(lines)


def _title(sampler: ConfigDict) -> str:
  shift = f" {sampler.shift:g}" if sampler.grid == "shifted" else ""
  return f"{sampler.name}, {sampler.grid}{shift}, {sampler.steps}"


def levels_report(config: ConfigDict) -> str:
  """Returns how well training and sampling agree on noise levels.

  Args:
    config: of a run.
  """
  parts = []
  if "flow" in config.forecasters:
    parts.append(_flow_levels(config))
  if "ddpm" in config.forecasters:
    parts.append(
      f"ddpm is trained at {config.forecaster.ddpm.levels} levels, equally"
      " often, and called at no others."
    )
  if not parts:
    parts.append(
      f"forecasters = {tuple(config.forecasters)}: none of {_SAMPLED}, so no"
      " sampler is this config's own."
    )
  return "\n".join(parts)


def _flow_levels(config: ConfigDict) -> str:
  forecaster, spec = config.forecaster, trial_build.latent_spec(config)
  _, components = registry.compression(forecaster.compress)
  channels = components or spec.channels
  shift = resolve_shift(
    forecaster.flow.shift, spec.tf, spec.h * spec.w, channels
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
    print(sampler_report(config))
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
