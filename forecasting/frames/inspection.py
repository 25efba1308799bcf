"""Whether a download is complete and usable: what is there, what opens.

Looks at how all files of a split are put together, opens the split with its
reader and decodes a few clips. By default the reader looks at a sample only,
spread over the split, so that the answer takes no longer for a larger download.
What it finds is kept under `root`, so that a run with the same `data.root` does
not look again.
"""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from forecasting.frames import structure, windows
from forecasting.frames.clip import Clip, validate_clip
from forecasting.frames.decode import BadVideoError
from forecasting.frames.pipeline import ClipSource, open_source
from forecasting.frames.structure import Structure

# Splits that the protocol uses, where it is not both.
NEEDED = {"movi": ("train",), "perception_test": ("eval",)}
_ERRORS = (ValueError, OSError, BadVideoError)


@dataclasses.dataclass(frozen=True)
class Inspection:
  """What was found of a split.

  Attributes:
    split: 'train' or 'eval'.
    is_needed: Whether the protocol uses it.
    files: None where no release says how much there is.
    sample: How many recordings the reader looked at; None if at all.
    source: None if it does not open.
    clips: A few, spread over the split.
    problem: Why it does not open, or a clip does not decode; else empty.
  """

  split: str
  is_needed: bool
  files: Structure | None
  sample: int | None
  source: ClipSource | None
  clips: tuple[Clip, ...]
  problem: str

  @property
  def is_usable(self) -> bool:
    """Whether it gives clips, and nothing was found that stops a run."""
    stops = self.files is not None and self.files.is_fatal
    broken = stops and bool(self.files.damaged)
    return self.source is not None and not self.problem and not broken


def inspect(
  data: ConfigDict, split: str, root: Path, num_clips: int
) -> Inspection:
  """Opens a split and decodes some of its clips.

  Args:
    data: `config.data`; its `max_recordings` is the size of the sample.
    split: 'train' or 'eval'.
    root: Folder for what is remembered of the files.
    num_clips: How many to decode.

  Returns:
    What was found; problems of the data are in it, not raised.
  """
  files, source, clips, problem = None, None, [], ""
  sample = data.get("max_recordings")
  try:
    files = structure.look(data, split)
    if None not in (files, sample) and sample >= files.num_recordings:
      sample = None
    source = open_source(data, split, root)
    for index in windows.spread(range(len(source)), num_clips):
      clips.append(validate_clip(source[index]))
  except _ERRORS as error:
    problem = str(error)
  return Inspection(
    split=split,
    is_needed=split in NEEDED.get(data.name, ("train", "eval")),
    files=files,
    sample=sample,
    source=source,
    clips=tuple(clips),
    problem=problem,
  )


def describe_labels(clips: tuple[Clip, ...]) -> dict[str, str]:
  """Says how much is labeled, by kind of label, over some clips."""
  described = {}
  if clips and "depth" in clips[0]:
    share = np.mean([np.mean(clip["depth"] > 0) for clip in clips])
    meters = np.concatenate(
      [clip["depth"][clip["depth"] > 0] for clip in clips]
    )
    described["depth"] = f"{share:.0%} of the pixels measured"
    if meters.size:
      described["depth"] += f", median {np.median(meters):.1f} m"
  for name, kept, seen in (
    ("tracks", "track_mask", "visible"),
    ("boxes", "object_mask", "box_mask"),
  ):
    if clips and name in clips[0]:
      count = np.mean([clip[kept].sum() for clip in clips])
      present = np.concatenate(
        [clip[seen][:, clip[kept]].ravel() for clip in clips]
      )
      described[name] = f"{count:.1f} a clip"
      if present.size:
        described[name] += f", seen in {present.mean():.0%} of it"
  return described
