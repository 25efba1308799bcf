"""An array inside a file, read when it is asked for.

A file mapped into memory would count as a second copy of the weights while
they are loaded; here each array is read into a buffer of its own.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np


class DamagedError(ValueError):
  """A file is not what its name promises; the message says why."""


@dataclasses.dataclass(frozen=True)
class StoredArray:
  """Little-endian numbers in a file.

  Attributes:
    path: of the file.
    start: byte of the first number.
    dtype: of the numbers.
    shape: of the array.
    strides: numbers to skip for the next one along each axis; None: stored row
      by row.
  """

  path: Path
  start: int
  dtype: np.dtype
  shape: tuple[int, ...]
  strides: tuple[int, ...] | None = None

  @property
  def span(self) -> int:
    """How many numbers of the file the array reaches over."""
    if 0 in self.shape:
      return 0
    if self.strides is None:
      return math.prod(self.shape)
    steps = zip(self.shape, self.strides, strict=True)
    return 1 + sum((size - 1) * stride for size, stride in steps)

  def read(self) -> np.ndarray:
    """Returns the array; a view of the numbers read where strides are given.

    Raises:
      DamagedError: the file ends before the array does.
    """
    size = self.span * self.dtype.itemsize
    if self.path.stat().st_size < self.start + size:
      raise DamagedError(
        "it is truncated in the middle of an array; download it again"
      )
    raw = np.fromfile(self.path, np.uint8, size, offset=self.start)
    numbers = raw.view(self.dtype)
    if self.strides is None or 0 in self.shape:
      return numbers.reshape(self.shape)
    return np.lib.stride_tricks.as_strided(
      numbers,
      self.shape,
      tuple(stride * self.dtype.itemsize for stride in self.strides),
      writeable=False,
    )
