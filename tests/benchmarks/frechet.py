"""Times the Fréchet distance against the usual matrix square root.

  python tests/benchmarks/frechet.py [--rows 500 5000] [--dims 2352]

Prints seconds of both, their ratio and the relative difference. Rows have the
spectrum of pooled natural images, about 1 / k. The square root takes minutes.
"""

import argparse
import time

import numpy as np
import scipy.fft
import scipy.linalg

from forecasting.metrics.frechet import frechet_distance


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


def main() -> None:
  """Times both for every number of rows."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rows", type=int, nargs="+", default=[500, 5000])
  parser.add_argument("--dims", type=int, default=2352)
  arguments = parser.parse_args()
  for num_rows in arguments.rows:
    pred, truth = (make_rows(num_rows, arguments.dims, i) for i in (0, 1))
    values, seconds = [], []
    for distance in (frechet_distance, square_root_distance):
      start = time.perf_counter()
      values.append(distance(pred, truth))
      seconds.append(time.perf_counter() - start)
    difference = abs(values[0] - values[1]) / values[1]
    print(
      f"N={num_rows} D={arguments.dims}: {seconds[0]:.2f} s, square root "
      f"{seconds[1]:.2f} s, {seconds[1] / seconds[0]:.1f} times faster, "
      f"relative difference {difference:.1e}",
      flush=True,
    )


if __name__ == "__main__":
  main()
