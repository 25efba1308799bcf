"""Lets processes take turns, so that a busy machine is busy for all of them.

A benchmark starts one process per side on the same cores. Each warms up, then
runs once for every line of its input and prints the seconds.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

WARM_UP = 2  # compiling, and caches


# On a loaded machine the processor's seconds for this process say more, those
# of all its threads together.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def serve(
  run: Callable[[], None], notes: Mapping[str, float], clock: str = "wall"
) -> None:
  """Runs once for every line of the input and prints its seconds."""
  for _ in range(WARM_UP):
    run()
  print("ready", *(f"{name}={value}" for name, value in notes.items()))
  sys.stdout.flush()
  for _ in sys.stdin:
    begin = CLOCKS[clock]()
    run()
    print(CLOCKS[clock]() - begin, flush=True)


class Side:
  """A process that runs `serve`; `notes` are what it told of itself."""

  def __init__(self, command: Sequence[str], threads: int):
    cores = sorted(os.sched_getaffinity(0))[:threads]
    self._process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      # XLA takes a thread for every core that it sees.
      preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    for line in self._process.stdout:
      if line.startswith("ready"):
        pairs = (word.split("=") for word in line.split()[1:])
        self.notes = {name: float(value) for name, value in pairs}
        return
    raise RuntimeError(f"{' '.join(command)} ended; see its error above")

  def run(self) -> float:
    """Lets it run once and returns its seconds."""
    print(file=self._process.stdin, flush=True)
    return float(self._process.stdout.readline())

  def close(self) -> None:
    """Ends it."""
    self._process.stdin.close()
    self._process.wait()


def take_turns(
  runs: Mapping[str, Callable[[], float]], repeats: int
) -> dict[str, list[float]]:
  """Returns the seconds of each; who begins changes from turn to turn."""
  seconds = {name: [] for name in runs}
  for turn in range(repeats):
    for name in list(runs)[:: -1 if turn % 2 else 1]:
      seconds[name].append(runs[name]())
  return seconds


def timed(run: Callable[[], None], clock: str = "wall") -> Callable[[], float]:
  """Returns a function that runs and returns the seconds."""

  def measure() -> float:
    begin = CLOCKS[clock]()
    run()
    return CLOCKS[clock]() - begin

  return measure


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
  """Median and range of the ratios of neighboring turns."""
  ratios = [peer / own for peer, own in zip(theirs, ours, strict=True)]
  return (
    f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
  )
