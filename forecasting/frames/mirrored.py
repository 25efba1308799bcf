"""Random horizontal flips of training clips, decided once for each clip.

Latents are stored, so a clip is encoded in one orientation only. Which one
follows from `data.seed` and the clip's name, and is kept in the name under
which its latents are stored; the fingerprint tells such a set of clips from
the one as recorded, so that their latents never mix. Captions are made from
names too (`scenes/captions.py`), so they are of what the mirror shows.

Source: tasks.md 2.5, for pixels, depth and boxes; never in evaluation.
"""

import functools
import hashlib
import json
from typing import Any

import numpy as np

from forecasting.frames import preprocess
from forecasting.frames.clip import Clip
from forecasting.frames.clip_list import ClipList

SUFFIX = " mirrored"
VERSION = 1  # A change of which clips are mirrored makes other clips.


def mirror_some(source: Any, seed: int) -> ClipList:
  """Mirrors about half of the clips, with all their labels.

  Args:
    source: A `ClipSource`.
    seed: Chooses another half.

  Returns:
    As many clips in the same order; names of mirrored ones end with `SUFFIX`.
  """
  content = [VERSION, seed, source.fingerprint]
  return ClipList(
    range(len(source)),
    functools.partial(_read, source=source, seed=seed),
    name=source.name,
    split=source.split,
    labels=source.labels,
    fingerprint=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
    skipped=source.skipped,
  )


def is_mirrored(seed: int, clip_id: str) -> bool:
  """Tosses the coin of a clip."""
  text = f"mirrored/{seed}/{clip_id}"
  return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] < 128


def _read(index: int, source: Any, seed: int) -> Clip:
  clip = source[index]
  if not is_mirrored(seed, str(clip["clip_id"])):
    return clip
  name = np.asarray(f"{clip['clip_id']}{SUFFIX}")
  return preprocess.flip_horizontal(clip) | {"clip_id": name}
