"""How the process gets memory from the system, on CPUs."""

import ctypes
import sys

import jax

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _AT_A_TIME = 2**31 - 1, 2**28


def keep_freed_memory() -> bool:
  """Lets a CPU run use again what it has freed, instead of giving it back.

  By default glibc maps every large buffer anew and unmaps it when it is freed,
  so every step has the system clear its pages again: a fifth of the time of a
  training step of the tiny presets. The process stays as large as it once was.

  Returns:
    Whether it did; not on accelerators, nor without glibc.
  """
  if jax.default_backend() != "cpu" or not sys.platform.startswith("linux"):
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return False
  options = (
    (_MMAP_MAX, 0),
    (_TRIM_THRESHOLD, _NEVER),
    (_TOP_PAD, _AT_A_TIME),
  )
  return all([mallopt(name, value) == 1 for name, value in options])
