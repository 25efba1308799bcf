"""Forecasts dressed with the readouts' own errors.

A readout says where a point or a box is, given latents, and not how far off it
may be. Samples that go through it vary by what the forecaster leaves open and
lack what the readout does not know: even those of an exact forecaster are
spread too little. Dressing adds to each sample an error that the readout made
on the true latents of some training clip: a whole row, so that errors stay
correlated over frames.

What is scored by example (PSNR, AJ, IoU ..) stays as it was read out; dressed
forecasts are scored as distributions, beside the plain ones.

Source: Roulston and Smith, Combining dynamical and statistical ensembles,
Tellus A 55 (2003). Theirs are errors of past forecasts; of the readout alone is
our choice, so that no forecaster is mended by what it is scored on.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from forecasting.metrics.vectors import Vectors
from forecasting.shapes import Array


@dataclasses.dataclass(frozen=True)
class Dressing:
  """Errors of readouts, and how they are drawn.

  Attributes:
    errors: task to rows of errors; a task without any is not dressed.
    seed: of the draws.
  """

  errors: Mapping[str, Float[np.ndarray, "N V"]]
  seed: int

  def dress(
    self, task: str, rows: Vectors, example_ids: Sequence[int]
  ) -> Vectors | None:
    """Returns forecasts with an error added to every sample.

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
    picks = np.empty((rows.num_rows, rows.num_samples), int)
    for row, (clip, track) in enumerate(zip(rows.example, rows.track)):
      identity = (self.seed % 2**32, int(example_ids[clip]), int(track))
      draws = np.random.default_rng(identity).random(rows.num_samples)
      picks[row] = draws * len(errors)
    return dataclasses.replace(rows, pred=rows.pred + errors[picks])


def errors_of(rows: Vectors) -> Float[Array, "R V"]:
  """Returns what a readout of true latents is off by, truth less readout.

  Args:
    rows: readouts, of one sample, beside the truth.

  Returns:
    The errors of all rows that are finite.
  """
  errors = rows.truth - rows.pred[:, 0]
  return errors[np.isfinite(errors).all(axis=1)]
