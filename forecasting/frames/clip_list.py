"""The clips of a data set on disk: chosen first, read when asked for."""

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

from forecasting.frames.clip import Clip


@dataclasses.dataclass(frozen=True, eq=False)
class ClipList:
  """Random access to clips; a `ClipSource`.

  Attributes:
    items: What `read` takes, one for each clip.
    read: Makes a clip; safe to call from several threads at a time.
    name: Of the data set.
    split: 'train' or 'eval'.
    labels: Which of 'depth', 'points', 'boxes' every clip carries.
    fingerprint: Hash of all that determines the clips.
    skipped: What was left out, reason to count.
    eval_list_hash: Of the list of scored clips, where one was written.
  """

  # Millions; whoever prints a list of clips does not want them.
  items: Sequence[Any] = dataclasses.field(repr=False)
  read: Callable[[Any], Clip] = dataclasses.field(repr=False)
  name: str
  split: str
  labels: tuple[str, ...]
  fingerprint: str
  skipped: Mapping[str, int]
  eval_list_hash: str | None = None

  def __len__(self) -> int:
    """Returns the number of clips."""
    return len(self.items)

  def __getitem__(self, i: SupportsIndex) -> Clip:
    """Reads one clip.

    Args:
      i: Its index, from 0.

    Returns:
      The clip.

    Raises:
      IndexError: If there is no such clip.
      Whatever `read` raises on damage since the data was opened.
    """
    index = operator.index(i)
    if not 0 <= index < len(self):
      raise IndexError(f"clip {index} of {len(self)} in split {self.split!r}")
    return self.read(self.items[index])
