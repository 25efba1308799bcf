"""Where a forecast's missing variance goes: sampler, forecaster or readout.

Three gaps between the variance of the truth V and that of the forecasts, each a
ratio of which 1 is right and the product is the forecasts' share of V:

  readout      V(oracle) / V       true future latents through the readout
  forecaster   V(reference) / V(oracle)   the trained network, sampled with so
                                   many calls that the sampler adds nothing
  sampler      V(default) / V(reference)  the configured sampler, same weights

A readout trained with squared errors shrinks variance on its own, which is not
the forecaster's fault; a sampler may delete spread that the network has
learnt. The spread between an example's samples is compared for the sampler
alone, since the oracle has one future.

Source: forecaster.md 11.
"""

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from forecasting import evaluator, experiment, same_run
from forecasting.forecaster_config import sampler_config
from forecasting.report.missing_variance import FILE_NAME
from forecasting.report.results import Row, score
from forecasting.samples import predict
from forecasting.shapes import Params
from forecasting.training import checkpoint

# 255 calls of a second-order sampler, between the levels of the default one.
# Source: forecaster.md 11.
_REFERENCE = {"name": "heun", "grid": "logsnr", "steps": 128}
_VARIANCES = ("var_time", "var_gauss")


def decompose(oracle: Row, reference: Row, default: Row) -> dict[str, Any]:
  """Returns the three gaps of one task, and what was measured.

  Args:
    oracle: row of the true future latents.
    reference: of the forecaster with a sampler of many calls.
    default: of the same weights with the configured sampler.
  """
  gaps: dict[str, dict[str, float]] = {}
  for name in _VARIANCES:
    truth = score(oracle, f"truth_{name}")
    steps = [truth, *(score(row, name) for row in (oracle, reference, default))]
    readout, forecaster, sampler = (
      _ratio(after, before) for before, after in itertools.pairwise(steps)
    )
    gaps[name] = {
      "readout": readout,
      "forecaster": forecaster,
      "sampler": sampler,
      "all": _ratio(steps[-1], truth),
    }
  spread = _ratio(score(default, "spread"), score(reference, "spread"))
  gaps["spread"] = {"sampler": spread}
  names = (*_VARIANCES, "spread", "spread_skill", "energy_score", "crps")
  return {
    "gaps": gaps,
    "calls": [row["calls_per_sample"] for row in (reference, default)],
    "truth": {name: score(oracle, f"truth_{name}") for name in _VARIANCES},
    "rows": {
      # The oracle has one future, and so no spread.
      label: {n: score(row, n) for n in names if math.isfinite(score(row, n))}
      for label, row in (
        ("oracle_future", oracle),
        ("reference", reference),
        ("default", default),
      )
    },
  }


def _ratio(after: float, before: float) -> float:
  return after / before if before else math.nan


def with_reference_sampler(config: ConfigDict) -> ConfigDict:
  """Returns the config whose `flow` is sampled as exactly as is worth it."""
  other = ConfigDict(config.to_dict())
  # All that decides what a sampler loses is the default's, ends of the grid
  # included; guidance and chunks say what is sampled, not how exactly.
  exact = sampler_config()
  exact.update(
    _REFERENCE,
    guidance=config.forecaster.sampler.guidance,
    chunk=config.forecaster.sampler.chunk,
  )
  other.forecaster.sampler = exact
  return other


def measure(config: ConfigDict, workdir: Path) -> dict[str, Any]:
  """Scores `flow` with both samplers, and the oracle, from a checkpoint.

  Args:
    config: of the run, with 'flow' among its forecasters.
    workdir: of the run; gets `calibration.json`.

  Returns:
    Task to `decompose`.

  Raises:
    ValueError: the run has no 'flow', or was trained with another config.
  """
  if "flow" not in config.forecasters:
    raise ValueError(
      f"forecasters = {tuple(config.forecasters)}: the diagnosis of calibration"
      " takes samples of 'flow' with two samplers, so it has to be among them"
    )
  same_run.check_config(config, workdir)
  step, params = checkpoint.restore_ema(workdir)
  plain = ConfigDict(config.to_dict())
  plain.update(forecasters=("flow",), baselines=("oracle_future",))
  plain.data.update(future_contexts=0, horizon_frames=0)
  rows = _rows(plain, workdir, params, step)
  # Only the forecaster depends on the sampler.
  exact = with_reference_sampler(plain)
  exact.baselines = ()
  reference = _rows(exact, workdir, params, step)
  found = {
    task: decompose(
      rows[task, "oracle_future"], reference[task, "flow"], rows[task, "flow"]
    )
    for task in config.tasks
  }
  (workdir / FILE_NAME).write_text(json.dumps(found, indent=1) + "\n")
  return found


def _rows(
  config: ConfigDict,
  workdir: Path,
  params: Mapping[str, Params],
  step: int,
) -> dict[tuple[str, str], Row]:
  run = experiment.open_experiment(config.lock(), workdir)
  rows = evaluator.evaluate(
    run.predictors(params, step),
    predict.perception_predictor(run.readouts(params)),
    run.stores["eval"],
    run.settings(),
  )
  return {(row["task"], row["forecaster"]): row for row in rows}


def report(found: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the gaps as text.

  Args:
    found: of `measure`.
  """
  lines = [
    "Share of the variance that is left after each part; 1.00 is right.",
    "",
    f"{'task':<10}{'variance':<12}{'readout':>9}{'forecaster':>12}"
    f"{'sampler':>9}{'all':>9}",
  ]
  for task, entry in found.items():
    for name, gaps in entry["gaps"].items():
      cells = (
        _cell(gaps, part, width)
        for part, width in (
          ("readout", 9),
          ("forecaster", 12),
          ("sampler", 9),
          ("all", 9),
        )
      )
      lines.append(f"{task:<10}{name:<12}" + "".join(cells))
    rows, calls = entry["rows"], entry["calls"]
    scores = [rows[label]["energy_score"] for label in ("reference", "default")]
    lines.append(
      f"{task:<10}energy score {scores[1]:.4g} with {calls[1]} calls, "
      f"{scores[0]:.4g} with {calls[0]}"
    )
  return "\n".join(lines)


def _cell(gaps: Mapping[str, float], part: str, width: int) -> str:
  return f"{gaps[part]:>{width}.3f}" if part in gaps else "–".rjust(width)
