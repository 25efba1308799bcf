"""The page's first screen: which run this is, and how to read the rest."""

import html
from collections.abc import Sequence

from forecasting.report.results import Row, nonfinite
from forecasting.report.runs import Run

HOW_TO_READ = """
<p>Every forecaster sees the context frames alone and predicts the rest; a
frozen readout turns predicted latents into the task's output. <b>Mean</b>,
<b>std</b> and <b>best-of-S</b> are over the S samples of a clip, then averaged
over clips. <b>Perception</b> is the readout on the observed future, the
<b>oracle</b> row the readout of the true future latents: neither forecasts.</p>
<p><b>FD</b> is the Fréchet distance of all S samples to the truth, <b>FD₁</b>
of one sample per clip: only FD₁ compares forecasters with different S, so in
the FD column only those with the largest S compete. <b>Var time</b> and
<b>Var Gauss</b> are the variance over time and of the fitted Gaussian, best
when equal to the truth's (small type). <b>Energy score</b> and <b>CRPS</b> are
fair for any S. <b>Spread-skill</b> is 1 when the samples' spread equals the
error of their mean; below 1 they are too alike.</p>
<p>Arrows: ↑ higher is better, ↓ lower, →1 closer to one, →truth closer to the
truth. <b>Bold and underlined</b>: the best of the column, oracle apart, and all
that are not significantly worse, as the note below each table says. Small type
in brackets: 95 % bootstrap interval over clips. A factor such as ×10⁻³ in a
heading multiplies the whole column.</p>
"""

ABOUT_CALIBRATION = """
<p>Spread-skill and rank histograms are of the rows above: one observed future
per clip. A calibrated forecaster has a ratio of 1 at every frame and a flat
histogram; a U-shape means too little spread, a dome too much.</p>
"""

ABOUT_LEADS = """
<p>Every frame is scored by itself. Scores of the whole forecast are in the
tables above; per_frame.csv has all of these numbers.</p>
"""

ABOUT_HORIZON = """
<p><b>Longer clips.</b> The same forecasters on clips that go on beyond the
frames of training, window after window; those that know one window only are
not among them.</p>
"""

ABOUT_FUTURES = """
<p><b>Known futures.</b> The simulator drew several futures of the same
context, so the true conditional distribution is known. The relative energy
score divides a forecaster's by that of the simulator itself: 1 is perfect.
The readout of the true futures' latents is the floor for anything that
forecasts latents.</p>
"""

ABOUT_DRESSED = """
<p><b>Dressed forecasts.</b> A readout gives one answer for given latents,
however unsure it is, so samples vary by what the forecaster leaves open alone.
Here an error that the readout made on the true latents of another clip is
added to every sample. If clips were held out of training, the error is of one
of those, and each frame's spread is then widened, by deviations of the
forecaster's own samples, until on held-out clips it equals the error; "widened
by" says how much, on average over frames: 1 is not at all. Forecasts of one
sample stay points.</p>
"""

ABOUT_CLIPS = """
<p>Each animation plays all frames of a clip beside forecasts of it.
<span class="key observed"></span>solid blue border: observed frames;
<span class="key forecast"></span>dashed orange border: forecast frames. Boxes
and points are drawn on the dimmed true video, one color per object in all
columns. Forecast boxes are solid, true ones dashed; forecast points are filled
dots (rings if predicted occluded), true ones crosses. Gray depth: no
measurement.</p>
"""


def header(runs: Sequence[Run]) -> str:
  """Returns warnings and facts of every run; facts of several are folded."""
  several = len(runs) > 1
  warnings = "".join(_warnings(run, several) for run in runs)
  facts = "".join(_facts(run) for run in runs)
  if several:
    title = f"What the {len(runs)} runs are"
    facts = f"<details><summary>{title}</summary>{facts}</details>"
  return warnings + facts


def _warnings(run: Run, named: bool) -> str:
  texts = []
  if "leaky_full_clip" in _values(run.rows, "context_mode"):
    texts.append(
      "<b>WARNING: the context leaks the future.</b> Context mode "
      "leaky_full_clip encodes the context together with the frames to be "
      "forecast. These numbers are an ablation, not forecasts."
    )
  if run.config.get("backbone", {}).get("random_init"):
    texts.append(
      "<b>Random weights.</b> This backbone was not pretrained: the run is the "
      "reference that pretraining has to beat."
    )
  return "".join(_warning(run, named, text) for text in texts)


def _warning(run: Run, named: bool, text: str) -> str:
  name = f"{html.escape(run.name)}: " if named else ""
  return f'<p class="warning" role="alert">{name}{text}</p>'


def broken_forecasts(runs: Sequence[Run]) -> str:
  """Returns a warning for every run with forecasts that are no numbers."""
  told = []
  for run in runs:
    found = [
      f"{row['task']}: {text}" for row in run.rows if (text := nonfinite(row))
    ]
    if found:
      text = (
        "<b>Forecasts that are not finite</b> (NaN or infinite): "
        f"{html.escape('; '.join(found))}. Scores that would use them have no "
        "value."
      )
      told.append(_warning(run, len(runs) > 1, text))
  return "".join(told)


def _facts(run: Run) -> str:
  rows = run.rows
  weights = [
    f"{row['backbone']} ({str(row.get('weights_digest', 'unknown'))[:16]})"
    for row in rows
  ]
  data = run.config.get("data", {})
  dataset = _values(rows, "dataset") or [data.get("name", "unknown")]
  futures = {
    f"{known.get('contexts', '?')} contexts × {known.get('futures', '?')}"
    for row in rows
    if (known := row.get("futures"))
  }
  facts = {
    "Run": _values(rows, "name"),
    "Backbone": list(dict.fromkeys(weights)),
    "Layer": _values(rows, "layer"),
    "Context mode": _values(rows, "context_mode"),
    "Dataset": dataset,
    "Clips scored": _values(rows, "num_examples"),
    "Known futures": sorted(futures),
    "Frames scored": _values(rows, "frames"),
    "Samples S": _values(rows, "num_samples"),
    "Weights": _values(rows, "weights"),
    "Trained steps": _values(rows, "step"),
    "Seed": _values(rows, "seed"),
    "Device": _values(rows, "device"),
    "Git revision": _values(rows, "git_revision"),
    "Clip list": _values(rows, "eval_list_hash"),
  }
  items = "".join(
    f"<div><dt>{name}</dt><dd>{html.escape(', '.join(map(str, values)))}</dd>"
    "</div>"
    for name, values in facts.items()
    if values
  )
  return f'<dl class="facts">{items}</dl>'


def _values(rows: Sequence[Row], field: str) -> list:
  """Returns the different values of a field, in order of appearance."""
  found = dict.fromkeys(row.get(field) for row in rows)
  return [value for value in found if value is not None]
