"""Times the Fréchet distance against the usual matrix square root.

  python tests/benchmarks/frechet.py [--rows 500 5000] [--dims 2352]

Prints seconds of both, their ratio and the relative difference. Rows have the
spectrum of pooled natural images, about 1 / k. The square root takes minutes.
With more rows than dimensions it is well-posed, and a difference above 1e-6
is an error; with fewer the product of covariances is singular, and what
scipy.linalg.sqrtm makes of it is off by itself.
"""

import argparse
import statistics

import numpy as np
import scipy.fft
import scipy.linalg
import turns

from forecasting.metrics.frechet import frechet_distance

TOLERANCE = 1e-6


def make_rows(num_rows: int, num_dims: int, seed: int) -> np.ndarray:
  """Random rows whose covariance has eigenvalues 1 / k.

  Args:
    num_rows: rows.
    num_dims: length of a row.
    seed: of the draw.

  Returns:
    The rows; different seeds are shifted and scaled against each other.
  """
  rng = np.random.default_rng(seed)
  scale = np.arange(1, num_dims + 1) ** -0.5 * (1.0 + 0.2 * seed)
  rows = rng.normal(size=(num_rows, num_dims)) * scale + 0.05 * seed
  # Mix the dimensions: a nearly diagonal covariance would flatter both.
  return scipy.fft.dct(rows, norm="ortho", axis=1)


def square_root_distance(pred: np.ndarray, truth: np.ndarray) -> float:
  """The same distance through the square root of the covariances' product.

  Args:
    pred: rows of one side.
    truth: rows of the other.

  Returns:
    The distance.
  """
  first, second = np.cov(pred, rowvar=False), np.cov(truth, rowvar=False)
  root = scipy.linalg.sqrtm(first @ second).real
  shift = pred.mean(axis=0) - truth.mean(axis=0)
  return float(shift @ shift + np.trace(first + second - 2.0 * root))


def compare(num_rows: int, num_dims: int, repeats: int, clock: str) -> None:
  """Lets both take turns on the same rows and prints a line.

  Raises:
    ValueError: they differ where the square root is well-posed.
  """
  pred, truth = (make_rows(num_rows, num_dims, i) for i in (0, 1))
  values = {}

  def timed(name, distance):
    def run():
      values[name] = distance(pred, truth)

    return turns.timed(run, clock)

  seconds = turns.take_turns(
    {
      "ours": timed("ours", frechet_distance),
      "root": timed("root", square_root_distance),
    },
    repeats,
  )
  difference = abs(values["ours"] - values["root"]) / values["root"]
  print(
    f"N={num_rows} D={num_dims}: {statistics.median(seconds['ours']):.2f} s,"
    f" square root {statistics.median(seconds['root']):.2f} s, ratio"
    f" {turns.ratio(seconds['root'], seconds['ours'])},"
    f" relative difference {difference:.1e}",
    flush=True,
  )
  if num_rows > num_dims and not difference < TOLERANCE:
    raise ValueError(
      f"the distances of {num_rows} rows of {num_dims} differ by"
      f" {difference:.1e} of their value; expected less than {TOLERANCE}"
    )


def main(arguments: list[str] | None = None) -> None:
  """Times both for every number of rows."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rows", type=int, nargs="+", default=[500, 5000])
  parser.add_argument("--dims", type=int, default=2352)
  parser.add_argument("--repeats", type=int, default=1)
  parser.add_argument("--clock", choices=turns.CLOCKS, default="wall")
  options = parser.parse_args(arguments)
  for num_rows in options.rows:
    compare(num_rows, options.dims, options.repeats, options.clock)


if __name__ == "__main__":
  main()
