"""Memory that is freed and taken again, in processes of its own."""

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from forecasting.training.allocation import keep_freed_memory

if sys.argv[1] == "kept":
  assert keep_freed_memory()
for _ in range(2):
  np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
  np.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_used_again():
  faults = {
    name: int(
      subprocess.run(
        [sys.executable, "-c", _FAULTS, name],
        capture_output=True,
        text=True,
        check=True,
      ).stdout
    )
    for name in ("kept", "given back")
  }
  # 32 MiB are some 8,000 pages, unless they are huge.
  assert faults["kept"] < 10 < faults["given back"]
