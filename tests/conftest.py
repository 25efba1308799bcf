"""Checks every annotated shape of the package while the tests run."""

import os

import fast_compile
from jaxtyping import install_import_hook

os.environ.setdefault("XLA_FLAGS", fast_compile.FLAGS)

install_import_hook("forecasting", "beartype.beartype")

# Whole runs of the binaries, minutes each: begun first, they do not leave one
# worker alone at the end.
LONGEST = ("test_resume.py", "test_main.py", "test_errors.py")


def pytest_collection_modifyitems(items):
  """Puts the longest files first."""
  items.sort(key=lambda item: item.path.name not in LONGEST)
