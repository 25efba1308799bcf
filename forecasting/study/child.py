r"""Binary: becomes another command that does not outlive its parent.

python -m forecasting.study.child PARENT CORES COMMAND [ARGUMENT ...]

PARENT is the id of the process that starts it. When that one dies, by SIGKILL
as well, so does the command (Linux; elsewhere it goes on). CORES are those the
command may use, as in 0,1; empty: all.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def wrap(command: Sequence[str], cores: Sequence[int] = ()) -> list[str]:
  """Returns the command that runs another one as a child of this process.

  Args:
    command: to run.
    cores: that it may use; empty: all.
  """
  listed = ",".join(map(str, cores))
  launcher = [sys.executable, "-m", "forecasting.study.child"]
  return [*launcher, str(os.getpid()), listed, *command]


def shares(workers: int) -> list[list[int]]:
  """Returns the cores that each of several processes may use.

  Args:
    workers: how many processes; with more than cores, some share one.

  Returns:
    For each its cores, all together every one that this process has; empty
    where the system does not let one choose.
  """
  if not hasattr(os, "sched_getaffinity"):
    return [[] for _ in range(workers)]
  cores = sorted(os.sched_getaffinity(0))
  count = len(cores)
  return [
    cores[i * count // workers : (i + 1) * count // workers]
    or [cores[i % count]]
    for i in range(workers)
  ]


def main(argv: Sequence[str]) -> None:
  """Ties itself to its parent, then becomes the command."""
  parent, cores, *command = argv
  if sys.platform == "linux":
    # SIGTERM would let it save, for as long as that takes; runs that are killed
    # resume as well, and the next one waits for the lock of this one.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # It died before that.
      sys.exit(os.EX_TEMPFAIL)
    if cores:
      os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
  os.execvp(command[0], command)


if __name__ == "__main__":
  main(sys.argv[1:])
