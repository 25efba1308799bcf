"""Which clips of a recording are used, and the fixed list of those scored.

Every backbone has to be scored on the same clips, so the list depends on the
data set and on what is asked of it, never on a backbone: not on the size of
the frames, not on the batch, not on the machine.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def even_starts(num_frames: int, span: int, count: int) -> list[int]:
  """Spreads windows over a recording, none overlapping another.

  Args:
    num_frames: Frames of the recording.
    span: Frames of a window.
    count: Windows wanted.

  Returns:
    First frames, in order: each window in the middle of its share of the
    recording. Fewer than `count` if they would overlap, none if the recording
    is shorter than one.

  Source: our choice; tasks.md 4.1 asks for evenly spaced windows apart.
  """
  count = min(count, num_frames // span)
  # 2 * count is the common denominator of the middle of every share.
  return [
    ((2 * k + 1) * num_frames - count * span) // (2 * count)
    for k in range(count)
  ]


def spread(items: Sequence[Item], count: int | None) -> list[Item]:
  """Returns at most `count` items, evenly spaced; all if that is None."""
  if count is None or len(items) <= count:
    return list(items)
  return [items[i * len(items) // count] for i in range(count)]


def write_eval_list(root: Path, dataset: str, clip_ids: Iterable[str]) -> str:
  """Writes the clips that are scored, one id a line, and hashes them.

  Args:
    root: Folder of the data; the file is
      `<root>/eval_lists/<dataset>-<hash>.txt`.
    dataset: Name of the data set.
    clip_ids: In the order of the clips.

  Returns:
    The hash, the same that a result row of these clips carries.

  Raises:
    OSError: If the file cannot be written.
  """
  clip_ids = list(clip_ids)
  value = eval_list_hash(clip_ids)
  text = "".join(f"{clip_id}\n" for clip_id in clip_ids)
  path = Path(root) / "eval_lists" / f"{dataset}-{value}.txt"
  write_atomically(path, text.encode())
  return value


def eval_list_hash(clip_ids: Iterable[str]) -> str:
  """Returns a digest of clip ids in their order."""
  digest = hashlib.blake2b(digest_size=8)
  for clip_id in clip_ids:
    digest.update(np.asarray(clip_id).tobytes() + b"\n")
  return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
  """Writes a file whole or not at all, making its folder.

  Args:
    path: The file; left alone if it has this content already.
    content: Its bytes.

  Raises:
    OSError: If it cannot be written, saying where and what to do.
  """
  try:
    if path.exists() and path.read_bytes() == content:
      return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two runs that write the same file at a time each have their own.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
      # Not waiting for the disk: what a crash leaves torn is made anew.
      temporary.write_bytes(content)
      temporary.replace(path)
    finally:
      temporary.unlink(missing_ok=True)
  except OSError as error:
    raise OSError(
      f"cannot write {path}: {error}; free disk space or choose another place "
      "with config.data.root"
    ) from error
