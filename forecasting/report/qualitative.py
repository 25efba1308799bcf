"""Animated panels of single clips."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Block:
  """One animation."""

  title: str


def blocks(path: Path, kinds: Mapping[str, str]) -> Iterator[Block]:
  """Yields nothing yet."""
  del path, kinds
  yield from ()


def to_html(block: Block) -> str:
  """Returns a heading."""
  return block.title
