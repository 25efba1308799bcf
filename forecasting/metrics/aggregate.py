"""From one value per clip and sample to the numbers of a table.

Over the S samples of one clip: mean, standard deviation, maximum, minimum;
then the average of each over clips. "Best" is the maximum or the minimum,
whichever is better.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from forecasting.shapes import Array


@dataclasses.dataclass(frozen=True)
class Aggregate:
  """Statistics over samples per clip, and their averages over clips.

  Attributes:
    example_mean: mean over the samples of each clip; NaN if none has a value.
    example_std: population standard deviation (ddof 0).
    example_max: largest value.
    example_min: smallest value.
    mean: average of `example_mean` over the clips with a value; so are `std`,
      `max` and `min` of their arrays.
    num_examples: clips with something to score.
    num_excluded: clips without any value, though their forecasts are finite.
    num_partial: clips with values for some samples only.
    num_nan: values that are NaN for any reason, of all clips and samples.
    num_nonfinite: those of them whose forecast is NaN or infinite. If there
      are any, none of the statistics has a value: leaving them out would make
      a forecaster better by what it failed on.
  """

  example_mean: Float[np.ndarray, "B"]
  example_std: Float[np.ndarray, "B"]
  example_max: Float[np.ndarray, "B"]
  example_min: Float[np.ndarray, "B"]
  mean: float
  std: float
  max: float
  min: float
  num_examples: int
  num_excluded: int
  num_partial: int
  num_nan: int
  num_nonfinite: int = 0

  def best(self, higher_is_better: bool) -> float:
    """The average over clips of the best sample's value."""
    return self.max if higher_is_better else self.min

  def example_best(self, higher_is_better: bool) -> Float[np.ndarray, "B"]:
    """The best sample's value of each clip."""
    return self.example_max if higher_is_better else self.example_min


def aggregate(
  values: Float[Array, "B S"], is_finite: Bool[Array, "B S"] | None = None
) -> Aggregate:
  """Summarizes values over samples, then over clips.

  Args:
    values: one value per clip and sample; NaN where there is none.
    is_finite: whether what was scored of the forecast is; None: of all.

  Returns:
    The statistics, with NaN values left out and counted; all of them NaN if
    a forecast is not finite.

  Raises:
    ValueError: if there are no samples.

  Source: paper, table 2; ddof 0 and the treatment of NaN are our choice.
  """
  values = np.asarray(values, np.float64)
  if values.shape[1] == 0:
    raise ValueError("values has no samples (second axis); expected 1 or more.")
  if is_finite is None:
    is_finite = np.ones(values.shape, bool)
  values = np.where(is_finite, values, np.nan)
  is_sound = bool(np.all(is_finite))
  has_value = ~np.isnan(values)
  num_values = has_value.sum(axis=1)
  count = np.maximum(num_values, 1)
  mean = np.where(has_value, values, 0.0).sum(axis=1) / count
  deviation = np.where(has_value, values - mean[:, None], 0.0)
  statistics = {
    "mean": mean,
    "std": np.sqrt(np.square(deviation).sum(axis=1) / count),
    "max": np.where(has_value, values, -np.inf).max(axis=1),
    "min": np.where(has_value, values, np.inf).min(axis=1),
  }
  kept = num_values > 0
  per_example = {
    f"example_{name}": np.where(kept & is_sound, value, np.nan)
    for name, value in statistics.items()
  }
  averages = {
    name: float(value[kept].mean()) if is_sound and kept.any() else float("nan")
    for name, value in statistics.items()
  }
  excluded = ~kept & np.all(is_finite, axis=1)
  return Aggregate(
    **per_example,
    **averages,
    num_examples=int((~excluded).sum()),
    num_excluded=int(excluded.sum()),
    num_partial=int((kept & (num_values < values.shape[1])).sum()),
    num_nan=int((~has_value).sum()),
    num_nonfinite=int(np.sum(~np.asarray(is_finite))),
  )
