"""The shape of the package: what may import what, and how long things are."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "forecasting"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
SCRIPTS = sorted((REPOSITORY / "launch").rglob("*.py"))

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # of code: docstrings, comments, blanks apart
FORBIDDEN_NAMES = {"utils", "helpers", "misc", "common", "tools"}

# Imports point only to the left:
#   frames -> backbones -> latents -> readouts / forecaster -> training ->
#   samples -> metrics -> report
# Each folder lists what it may import besides itself and shapes.py. Modules at
# the top level put the folders together and may import all of them.
_LATENTS = {"frames", "backbones", "latents"}
_MODELS = _LATENTS | {"readouts", "forecaster", "training"}
ALLOWED = {
  "frames": set(),
  "backbones": {"frames"},
  "latents": {"frames", "backbones"},
  "readouts": _LATENTS,
  "forecaster": _LATENTS,
  "training": set(),
  "samples": _MODELS,
  "metrics": set(),
  "report": _MODELS | {"samples", "metrics"},
  # Pretraining is a program of its own: data, network and loop.
  "pretraining": {"frames", "backbones", "training"},
}
# Folders that, like modules at the top level, put the others together.
PROGRAMS = {"study"}
# Masked autoencoding is a network too.
LINEN = (
  "backbones/",
  "readouts/",
  "forecaster/denoiser.py",
  "pretraining/",
)


def _where(path: Path) -> str:
  return path.relative_to(PACKAGE).as_posix()


def _tree(path: Path) -> ast.Module:
  return ast.parse(path.read_text(), str(path))


def imports(tree: ast.Module, path: Path = PACKAGE / "x.py") -> set[str]:
  """Every module that a file imports, anywhere in it, by its full name.

  `from a import b` counts as both a and a.b, since b may be a module.
  """
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        parents = list(path.relative_to(REPOSITORY).parent.parts)
        parents = parents[: len(parents) - node.level + 1]
        base = ".".join([*parents, *([base] if base else [])])
      found.add(base)
      found |= {f"{base}.{alias.name}" for alias in node.names}
  return found


def import_problems(folder: str, modules: set[str]) -> list[str]:
  """Imports of ours that point to the right of `folder`."""
  problems = []
  for module in sorted(modules):
    parts = module.split(".")
    if parts[0] != "forecasting" or len(parts) < 2:
      continue
    target = parts[1]
    if target in ("shapes", folder) or target in ALLOWED[folder]:
      continue
    problems.append(module)
  return problems


def code_lines(node: ast.AST, source: list[str]) -> int:
  """Lines of a function without docstrings, comments and blank lines."""
  skipped = set()
  for inner in ast.walk(node):
    body = getattr(inner, "body", None)
    if isinstance(body, list) and body and _is_docstring(body[0]):
      skipped |= set(range(body[0].lineno, body[0].end_lineno + 1))
  count = 0
  for number in range(node.lineno, node.end_lineno + 1):
    text = source[number - 1].strip()
    count += number not in skipped and text != "" and text[0] != "#"
  return count


def _is_docstring(node: ast.AST) -> bool:
  return (
    isinstance(node, ast.Expr)
    and isinstance(node.value, ast.Constant)
    and isinstance(node.value.value, str)
  )


def _functions(tree: ast.Module):
  return [
    node
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
  ]


def undocumented(tree: ast.Module) -> list[str]:
  """Public functions, classes and methods without a docstring.

  Not counted: names with an underscore, dunder methods, functions inside
  functions, `setup` of a Linen module, and the bare `...` of a protocol, whose
  class describes its methods.
  """
  names = [] if ast.get_docstring(tree) else ["<module>"]

  def visit(body, prefix):
    for node in body:
      if not isinstance(
        node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
      ):
        continue
      if node.name.startswith("_") or node.name == "setup":
        continue
      if not ast.get_docstring(node) and not _is_bare(node):
        names.append(prefix + node.name)
      if isinstance(node, ast.ClassDef):
        visit(node.body, f"{node.name}.")

  visit(tree.body, "")
  return names


def _is_bare(node) -> bool:
  """Whether a body is only `...`."""
  (first, *rest) = node.body
  return not rest and ast.unparse(first) == "..."


def _ids(paths):
  return [path.relative_to(REPOSITORY).as_posix() for path in paths]


every_source = pytest.mark.parametrize("path", SOURCES, ids=_ids(SOURCES))
every_file = pytest.mark.parametrize(
  "path", SOURCES + TESTS + SCRIPTS, ids=_ids(SOURCES + TESTS + SCRIPTS)
)


@every_source
def test_imports_point_one_way(path):
  parts = path.relative_to(PACKAGE).parts
  if len(parts) == 1:
    if path.stem == "shapes":
      assert not import_problems("metrics", imports(_tree(path), path))
    return
  if parts[0] in PROGRAMS:
    return
  problems = import_problems(parts[0], imports(_tree(path), path))
  assert not problems, f"{parts[0]} may not import {problems}"


@every_source
def test_only_network_files_import_linen(path):
  if _where(path).startswith(LINEN):
    return
  linen = {
    module
    for module in imports(_tree(path), path)
    if module == "flax.linen" or module.startswith("flax.linen.")
  }
  assert not linen


@every_source
def test_nobody_imports_pickle(path):
  roots = {module.split(".")[0] for module in imports(_tree(path), path)}
  assert not roots & {"pickle", "dill", "joblib", "shelve", "marshal"}


@every_file
def test_length(path):
  source = path.read_text().splitlines()
  assert len(source) <= MAX_FILE_LINES
  long = {
    node.name: code_lines(node, source) for node in _functions(_tree(path))
  }
  long = {name: n for name, n in long.items() if n > MAX_FUNCTION_LINES}
  assert not long, f"lines of code by function: {long}"


@every_source
def test_everything_public_is_documented(path):
  assert not undocumented(_tree(path))


def test_no_drawer_for_everything():
  for path in (*SOURCES, *TESTS, *SCRIPTS):
    names = {*path.relative_to(REPOSITORY).parts[:-1], path.stem}
    assert not names & FORBIDDEN_NAMES, path


def test_folders_are_known_and_packages():
  for folder in {path.parent for path in SOURCES}:
    assert (folder / "__init__.py").exists(), folder
  folders = {
    path.relative_to(PACKAGE).parts[0]
    for path in SOURCES
    if path.parent != PACKAGE
  }
  assert folders <= ALLOWED.keys() | PROGRAMS


def test_every_test_folder_mirrors_the_package():
  extra = {"parity", "distributed", "faults", "benchmarks", "goldens"}
  for path in TESTS:
    parts = path.relative_to(REPOSITORY / "tests").parts
    if len(parts) > 1 and path.name.startswith("test_"):
      assert parts[0] in ALLOWED.keys() | PROGRAMS | extra, path


def test_importing_everything_needs_no_other_framework():
  modules = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for path in SOURCES
    if path.stem not in ("__init__", "__main__")
  ]
  code = (
    "import importlib, sys\n"
    f"for name in {modules!r}:\n"
    "  importlib.import_module(name)\n"
    "for name in ('tensorflow', 'torch', 'transformers', 'tensorboard'):\n"
    "  assert name not in sys.modules, name\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]


def test_nothing_imports_another_framework_at_its_top():
  for path in SOURCES:
    tree = _tree(path)
    top = ast.Module(
      [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], []
    )
    roots = {module.split(".")[0] for module in imports(top, path)}
    assert not roots & {"tensorflow", "torch", "transformers"}, path


# The rules themselves, on small pieces of code that break them.


def test_import_rule_sees_every_form():
  tree = ast.parse(
    "from forecasting.metrics import psnr\n"
    "def f():\n"
    "  import forecasting.report.tables\n"
    "  from forecasting import readouts, shapes\n"
    "from . import clip\n"
    "from ..training import loop\n"
    "import numpy\n"
  )
  found = imports(tree, PACKAGE / "frames" / "x.py")
  problems = import_problems("frames", found)
  folders = {module.split(".")[1] for module in problems}
  assert folders == {"metrics", "report", "readouts", "training"}


def test_readouts_and_forecaster_are_apart():
  assert import_problems("readouts", {"forecasting.forecaster.process"})
  assert import_problems("forecaster", {"forecasting.readouts"})
  assert import_problems("metrics", {"forecasting.config"})
  assert not import_problems("report", {"forecasting.metrics.psnr"})


def test_code_lines_leaves_out_docstrings_comments_and_blanks():
  source = (
    'def f(x):\n  """One.\n\n  Two.\n  """\n\n  # Why.\n  y = x\n  return y\n'
  )
  (function,) = _functions(ast.parse(source))
  assert code_lines(function, source.splitlines()) == 3


def test_undocumented_names_what_lacks_words():
  tree = ast.parse(
    '"""Module."""\n'
    "def f(): pass\n"
    "def _g(): pass\n"
    "class A:\n"
    '  """Class."""\n'
    "  def h(self): pass\n"
    "  def __call__(self): pass\n"
  )
  assert undocumented(tree) == ["f", "A.h"]


def test_package_under_test_is_this_one():
  spec = importlib.util.find_spec("forecasting")
  assert Path(spec.origin).parent == PACKAGE
