"""Forecasts dressed with what their samples lack.

A readout says where a point or a box is, given latents, and not how far off it
may be. Samples that go through it vary by what the forecaster leaves open and
lack what the readout does not know: even those of an exact forecaster are
spread too little. Dressing adds to each sample an error that the readout made
on the true latents of some clip held out of training: a whole row, so that
errors stay correlated over frames.

What is still missing then is the forecaster's own: to each sample comes the
deviation of another sample from its mean, of any held-out clip, times one
factor a frame, such that there spread equals error. With S samples of mean m
and variance v, truth y, and errors of mean b and variance w, its square is

    k = (E[(y - m - b)^2] - w) / v - (S + 1) / S,   at least 0             (1)

All that is added is drawn for each sample by itself, so samples stay
independent, as fair scores want them. Samples that vary too much stay so.

What is scored by example (PSNR, AJ, IoU ..) stays as it was read out; dressed
forecasts are scored as distributions, beside the plain ones.

Source: Roulston and Smith, Combining dynamical and statistical ensembles,
Tellus A 55 (2003), for the errors; theirs are of past forecasts, ours of the
readout alone. Wang and Bishop, Improvement of ensemble reliability with a new
dressing kernel, QJRMS 131 (2005), for noise that makes spread equal error;
deviations of the forecaster's own samples, after the readout's errors, are our
choice.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from einops import rearrange, reduce, repeat
from jaxtyping import Float

from forecasting.metrics import proper
from forecasting.metrics.vectors import Vectors
from forecasting.shapes import Array

# Samples that vary by less, in variance, beside their error are all alike.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Dressing:
  """What is added to samples, and how it is drawn.

  Attributes:
    errors: of readouts, task to rows; a task without any is not dressed.
    seed: of the draws.
    noise: of a forecaster, task to rows; likewise, or none.
    widening: task to what the noise multiplies the spread of a forecaster's
      samples by in each frame, on average.
  """

  errors: Mapping[str, Float[np.ndarray, "_ _"]]
  seed: int
  noise: Mapping[str, Float[np.ndarray, "_ _"]] = dataclasses.field(
    default_factory=dict
  )
  widening: Mapping[str, Float[np.ndarray, "_"]] = dataclasses.field(
    default_factory=dict
  )

  def fitted(self, forecasts: Mapping[str, Vectors]) -> "Dressing":
    """Returns the same errors with the noise that a forecaster's samples lack.

    Args:
      forecasts: task to its forecasts of held-out clips.
    """
    noise, widening = {}, {}
    for task, rows in forecasts.items():
      finite = np.isfinite(rows.pred).all(axis=(1, 2))
      errors = self.errors.get(task, ())
      if not len(errors) or not finite.any() or rows.num_samples == 1:
        continue
      kept = dataclasses.replace(
        rows,
        pred=rows.pred[finite],
        truth=rows.truth[finite],
        example=rows.example[finite],
        track=rows.track[finite],
      )
      share = _missing_variance(kept, errors)
      noise[task] = _deviations(kept, share)
      widening[task] = np.sqrt(1 + share)
    return dataclasses.replace(self, noise=noise, widening=widening)

  def dress(
    self, task: str, rows: Vectors, example_ids: Sequence[int]
  ) -> Vectors | None:
    """Returns forecasts with an error, and noise, added to every sample.

    Args:
      task: whose errors.
      rows: forecasts beside the truth.
      example_ids: identity of every clip that `rows.example` counts. The draws
        of a row depend on it, on the row's track and on the seed alone, and
        the first ones do not depend on how many there are.

    Returns:
      The same rows; None if there is nothing to dress: no rows, no errors of
      the task, or forecasts of one sample, which are no distributions.
    """
    errors = self.errors.get(task, np.empty((0, 0)))
    if not len(errors) or not rows.num_rows or rows.num_samples == 1:
      return None
    draws = np.empty((rows.num_rows, rows.num_samples, 2))
    for row, (clip, track) in enumerate(zip(rows.example, rows.track)):
      identity = (self.seed % 2**32, int(example_ids[clip]), int(track))
      draws[row] = np.random.default_rng(identity).random(draws.shape[1:])
    pred = rows.pred + _pick(errors, draws[..., 0])
    if task in self.noise:
      pred += _pick(self.noise[task], draws[..., 1])
    return dataclasses.replace(rows, pred=pred)


def _missing_variance(
  rows: Vectors, errors: Float[np.ndarray, "N V"]
) -> Float[np.ndarray, "Tf"]:
  """Returns k of eq. (1) by frame; 0 if samples are all alike."""
  spread, error = (
    terms.mean(axis=0)
    for terms in proper.spread_skill_terms(
      rows.pred + errors.mean(axis=0), rows.truth, rows.num_frames
    )
  )
  explained = reduce(errors.var(axis=0), "(f c) -> f", "sum", f=rows.num_frames)
  left = error - explained
  has_spread = spread > _ROUNDING * np.abs(left)
  ratio = np.divide(left, spread, out=np.zeros_like(left), where=has_spread)
  # The spread of these terms is (S + 1) / S times the variance.
  return (rows.num_samples + 1) / rows.num_samples * np.maximum(ratio - 1, 0)


def _deviations(
  rows: Vectors, share: Float[np.ndarray, "Tf"]
) -> Float[np.ndarray, "N V"]:
  """Returns samples less their mean, with a share of each frame's variance."""
  samples, length = rows.pred.shape[1:]
  factors = np.sqrt(share * samples / (samples - 1))
  factors = repeat(factors, "f -> (f c)", c=length // rows.num_frames)
  found = rows.pred - rows.pred.mean(axis=1, keepdims=True)
  return rearrange(found * factors, "r s v -> (r s) v")


def _pick(
  rows: Float[np.ndarray, "N V"], draws: Float[np.ndarray, "R S"]
) -> Float[np.ndarray, "R S V"]:
  """Returns rows by draws from [0, 1)."""
  return rows[(draws * len(rows)).astype(int)]


def errors_of(rows: Vectors) -> Float[Array, "R V"]:
  """Returns what a readout of true latents is off by, truth less readout.

  Args:
    rows: readouts, of one sample, beside the truth.

  Returns:
    The errors of all rows that are finite.
  """
  errors = rows.truth - rows.pred[:, 0]
  return errors[np.isfinite(errors).all(axis=1)]
