"""Causes faults and counts those that runs survive.

python tests/faults/survive.py --folder=/tmp/faults --kills=30

After each fault the run either ends, when started again, with the numbers of
the undisturbed one to the last bit, or it ends in one clear error that names
the remedy, after which it does.
"""

import argparse
import re
import sys
import time

import faults
from suite import NotSurvived, Suite


def survive(folder, num_kills=30, only="", seed=0):
  """Causes faults one after the other, and prints what became of each.

  Args:
    folder: of all runs.
    num_kills: kills at random times.
    only: pattern of the names of faults.
    seed: of the times.

  Returns:
    How many were survived, of how many.
  """
  suite = Suite(folder, seed)
  survived = total = 0
  for name, fault, count in faults.all_faults(num_kills):
    if not re.search(only, name):
      continue
    begin, outcome = time.monotonic(), "survived"
    try:
      fault(suite, name)
    except faults.NotPossible as error:
      print(f"{name}: not possible here, {error}", flush=True)
      continue
    except NotSurvived as error:
      outcome = f"NOT SURVIVED: {str(error)[-2000:]}"
    total += count
    survived += count * (outcome == "survived")
    seconds = time.monotonic() - begin
    print(f"{name}: {outcome} ({count}, {seconds:.0f} s)", flush=True)
  print(f"survived {survived} of {total} faults")
  return survived, total


def main():
  """Parses flags; the exit code is 1 if a fault was not survived."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--folder", required=True)
  parser.add_argument("--kills", type=int, default=30)
  parser.add_argument("--only", default="", help="pattern of faults")
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  survived, total = survive(
    options.folder, options.kills, options.only, options.seed
  )
  return 0 if survived == total else 1


if __name__ == "__main__":
  sys.exit(main())
