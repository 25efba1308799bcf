"""A store of a few small clips."""

from collections.abc import Callable
from pathlib import Path

import pytest
from noise_store import make_examples, make_manifest

from forecasting.latents import store


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., store.LatentStore]:
  """Writes a store under the test's folder."""

  def _write(name: str = "store", **fields) -> store.LatentStore:
    manifest = make_manifest(**fields)
    return store.write_store(tmp_path / name, manifest, make_examples)

  return _write
