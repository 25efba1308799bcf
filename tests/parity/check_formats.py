"""Reads files in the datasets' own formats and compares with stored values.

  python tests/parity/check_formats.py DIR

DIR holds any of scannet, perception_test, movi, waymo_v1 and waymo_v2, each
with files as a download leaves them and the values they decode to. Prints one
line per sample with what was compared, and exits non-zero on any mismatch.
Nothing is taken for granted but the layout: sizes, counts and names come from
the files.

Whoever has one of these in another place can name it:
  python tests/parity/check_formats.py --dataset=scannet DIR/of/scannet
"""

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

# A sample: its name, what was compared, and what differs.
Sample = tuple[str, str, list[str]]

# Folder: module beside this one and the function in it that, given the folder,
# yields its samples.
CHECKS = {
  "scannet": "check_formats_scannet:check",
  "perception_test": "check_formats_perception_test:check",
  "movi": "check_formats_kubric_waymo:check_movi",
  "waymo_v1": "check_formats_kubric_waymo:check_waymo_v1",
  "waymo_v2": "check_formats_kubric_waymo:check_waymo_v2",
}


def load_check(dataset: str) -> Callable[[Path], Iterator[Sample]]:
  """Returns the check of a folder name of `CHECKS`."""
  module, function = CHECKS[dataset].split(":")
  return getattr(importlib.import_module(module), function)


def run(dataset: str, folder: Path) -> tuple[int, int]:
  """Checks one folder and prints a line per sample.

  Args:
    dataset: a key of `CHECKS`.
    folder: with the files and their expected values.

  Returns:
    How many samples were compared and how many of them differ. A check that
    breaks off, or finds nothing to compare, counts as a sample that differs.
  """
  samples = failed = 0
  try:
    for name, compared, problems in load_check(dataset)(folder):
      samples += 1
      failed += bool(problems)
      print(f"{'FAIL' if problems else 'ok  '} {dataset} {name}: {compared}")
      for problem in problems:
        print(f"       {problem}")
    if not samples:
      raise ValueError(f"{folder} holds no sample to compare")
  except Exception as error:
    # The other folders are still worth checking.
    traceback.print_exc(limit=-3)
    print(f"FAIL {dataset}: {type(error).__name__}: {error}")
    samples, failed = samples + 1, failed + 1
  return samples, failed


def main() -> int:
  """Returns the exit code: the number of samples that differ, at most 1."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("folder", type=Path)
  parser.add_argument("--dataset", choices=sorted(CHECKS))
  arguments = parser.parse_args()
  if arguments.dataset:
    folders = {arguments.dataset: arguments.folder}
  else:
    if not arguments.folder.is_dir():
      parser.error(f"{arguments.folder} is no folder")
    folders = {
      path.name: path
      for path in sorted(arguments.folder.iterdir())
      if path.is_dir() and not path.name.startswith(".")
    }
  samples = failed = 0
  for dataset, folder in folders.items():
    if dataset not in CHECKS:
      print(f"FAIL {dataset}: no check; known: {', '.join(CHECKS)}")
      counts = (1, 1)
    else:
      counts = run(dataset, folder)
    samples, failed = samples + counts[0], failed + counts[1]
  print(f"{samples} samples, {failed} failed")
  return int(failed > 0 or not samples)


if __name__ == "__main__":
  sys.exit(main())
