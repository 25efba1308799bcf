"""An array inside a file, read when it is asked for.

A file mapped into memory would count as a second copy of the weights while
they are loaded; here each array is read into a buffer of its own.
"""

import dataclasses
import math
import mmap
from pathlib import Path

import numpy as np


class DamagedError(ValueError):
  """A file is not what its name promises; the message says why."""


def own_memory(size: int) -> np.ndarray:
  """Returns bytes that go back to the system with the last view of them.

  The allocator keeps what is freed between arrays that stay, up to a tenth of
  a large checkpoint. Pages also begin where XLA on CPU can share them.
  """
  return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8, size)


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
    raw = own_memory(size)
    with self.path.open("rb", buffering=0) as file:
      file.seek(self.start)
      done = 0
      while done < size:
        count = file.readinto(raw.data[done:])
        if not count:
          raise DamagedError("it became shorter while it was read")
        done += count
    numbers = raw.view(self.dtype)
    if self.strides is None or 0 in self.shape:
      return numbers.reshape(self.shape)
    return np.lib.stride_tricks.as_strided(
      numbers,
      self.shape,
      tuple(stride * self.dtype.itemsize for stride in self.strides),
      writeable=False,
    )
