r"""Runs a study: one command for every combination of field overrides.

python launch/study.py --config=configs/quickstart.py --dry_run \
  --grid seed=0,1,2 --grid forecaster.model.depth=2,4

`--grid FIELD=V1,V2` fields are multiplied with each other; all `--zip`
fields advance together, and their list is multiplied with the grid:

  --zip forecaster.model.width=64,128 --zip forecaster.model.heads=2,4

A value may hold commas inside brackets or quotes: --grid 'tasks=("pixels",)'.
Whatever follows `--` is passed to every run as it is.

Runs go one after another, each in its own folder under --root. A finished run
leaves `study_done.json` there and is skipped next time, so the same command
resumes a study; one that was pre-empted (exit code 75) is started again.

`--shard 2/4` runs every fourth of them from the second on: give each of several
hosts that share a file system its part.

A config that is a study itself, such as configs/study_tiny.py, has its own grid
of models, tasks and seeds, and a report: it is handed to `python -m
forecasting.study`, with --root as its --workdir and the same --shard.
"""

import argparse
import hashlib
import importlib.util
import itertools
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from forecasting.study.queue import Run, execute_all, is_done, shard

MAX_NAME = 150


def parse_axis(text: str) -> list[tuple[str, str]]:
  """Splits FIELD=V1,V2 into its overrides.

  Args:
    text: The field's path in the config, and its values.

  Returns:
    (field, value) for every value.

  Raises:
    ValueError: If there is no field, no value, or the brackets do not match.
  """
  field, equals, values = text.partition("=")
  field = field.strip().removeprefix("config.")
  if not re.fullmatch(r"\w+(\.\w+)*", field) or not equals:
    raise ValueError(f"{text!r}: expected FIELD=VALUE1,VALUE2,...")
  parsed = _split(values)
  if parsed is None or not all(parsed):
    raise ValueError(f"{text!r}: a value is empty or a bracket is not closed")
  return [(field, value) for value in parsed]


def _split(text: str) -> list[str] | None:
  """Splits at commas outside brackets and quotes; None if they don't match."""
  parts, closing, quote = [""], [], ""
  pairs = {"(": ")", "[": "]", "{": "}"}
  for character in text:
    if quote:
      quote = "" if character == quote else quote
    elif character in "'\"":
      quote = character
    elif character in pairs:
      closing.append(pairs[character])
    elif character in pairs.values():
      if not closing or closing.pop() != character:
        return None
    elif character == "," and not closing:
      parts.append("")
      continue
    parts[-1] += character
  return None if quote or closing else [part.strip() for part in parts]


def combine(grid: Sequence[str], zipped: Sequence[str]) -> list[dict[str, str]]:
  """Lists the overrides of every run, the last grid axis moving fastest.

  Args:
    grid: Axes FIELD=V1,V2 to multiply.
    zipped: Axes of one length that advance together.

  Returns:
    The overrides, field to value, of each run; one empty dict if no axis.

  Raises:
    ValueError: If zipped axes differ in length or a field comes twice.
  """
  axes = [[[pair] for pair in parse_axis(text)] for text in grid]
  columns = [parse_axis(text) for text in zipped]
  if len({len(column) for column in columns}) > 1:
    lengths = ", ".join(f"{c[0][0]}: {len(c)}" for c in columns)
    raise ValueError(f"--zip fields need equally many values; got {lengths}")
  if columns:
    axes.append([list(row) for row in zip(*columns, strict=True)])
  fields = [field for axis in axes for field, _ in axis[0]]
  twice = {field for field in fields if fields.count(field) > 1}
  if twice:
    raise ValueError(f"fields given twice: {', '.join(sorted(twice))}")
  return [
    dict(itertools.chain.from_iterable(choice))
    for choice in itertools.product(*axes)
  ]


def folder_name(overrides: dict[str, str]) -> str:
  """Returns a folder name that says what is different in a run."""
  if not overrides:
    return "run"
  words = [f"{field}={value}" for field, value in overrides.items()]
  name = re.sub(r"[^\w.=,+-]+", "_", ",".join(words))
  if len(name) <= MAX_NAME:
    return name
  # File systems allow 255 bytes; the end of a long name is hashed.
  digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
  return f"{name[:MAX_NAME]}-{digest}"


def plan(
  config: str,
  root: Path,
  overrides: Iterable[dict[str, str]],
  binary: str = "main",
  rest: Sequence[str] = (),
) -> list[Run]:
  """Makes the command of every run.

  Args:
    config: Path of the config file, `:variant` included.
    root: Folder of the study.
    overrides: Field to value, of each run.
    binary: Module of the package to run.
    rest: Flags passed to every run.

  Returns:
    The runs.

  Raises:
    ValueError: If two runs would share a folder.
  """
  runs = []
  for fields in overrides:
    workdir = root / folder_name(fields)
    command = [
      *(sys.executable, "-m", f"forecasting.{binary}"),
      f"--config={config}",
      f"--workdir={workdir}",
      *(f"--config.{field}={value}" for field, value in fields.items()),
      *rest,
    ]
    runs.append(Run(workdir, command))
  folders = [run.workdir for run in runs]
  if len(set(folders)) < len(folders):
    raise ValueError("two runs are the same, or differ in punctuation only")
  return runs


def is_study(config: str) -> bool:
  """Whether a config file describes a study instead of one run.

  Args:
    config: Its path, `:variant` included.
  """
  path, _, variant = config.partition(":")
  if not Path(path).is_file():
    return False  # The binary says so.
  spec = importlib.util.spec_from_file_location("config_file", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  fields = module.get_config(*([variant] if variant else []))
  return {"models", "seeds", "needs"} <= set(fields)


def study_command(
  arguments: argparse.Namespace, rest: Sequence[str]
) -> list[str]:
  """Returns the command that runs a config which is a study itself.

  Args:
    arguments: Of this script.
    rest: Flags passed on.

  Raises:
    ValueError: If a grid was given as well.
  """
  if arguments.grid or arguments.zip or arguments.binary != "main":
    raise ValueError(
      f"{arguments.config} is a study with a grid of its own: leave out --grid,"
      " --zip and --binary, or name the config of a run"
    )
  return [
    *(sys.executable, "-m", "forecasting.study"),
    f"--config={arguments.config}",
    *([f"--workdir={arguments.root}"] if arguments.root else []),
    f"--shard={arguments.shard}",
    *(["--dry_run"] if arguments.dry_run else []),
    *(["--config.keep_going=True"] if arguments.keep_going else []),
    *rest,
  ]


def main(argv: Sequence[str]) -> int:
  """Parses the arguments, then prints or executes the study."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--config", required=True, help="config file")
  parser.add_argument("--root", type=Path, help="default runs/<config>_study")
  parser.add_argument("--binary", default="main", help="module to run")
  parser.add_argument("--grid", action="append", default=[], metavar="F=V,V")
  parser.add_argument("--zip", action="append", default=[], metavar="F=V,V")
  parser.add_argument("--dry_run", action="store_true", help="only print")
  parser.add_argument("--keep_going", action="store_true")
  parser.add_argument("--shard", default="1/1", help="part to run, as in 2/4")
  cut = argv.index("--") if "--" in argv else len(argv)
  arguments = parser.parse_args(argv[:cut])
  stem = Path(arguments.config.partition(":")[0]).stem
  root = arguments.root or Path("runs") / f"{stem}_study"
  try:
    if is_study(arguments.config):
      command = study_command(arguments, argv[cut + 1 :])
      os.execv(command[0], command)
    runs = plan(
      arguments.config,
      root,
      combine(arguments.grid, arguments.zip),
      arguments.binary,
      argv[cut + 1 :],
    )
    runs = shard(runs, arguments.shard)
    if arguments.dry_run:
      for run in runs:
        print(("# done: " if is_done(run) else "") + shlex.join(run.command))
      return 0
    return execute_all(runs, arguments.keep_going)
  except ValueError as error:
    parser.error(str(error))


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
