r"""Binary: tells whether a downloaded data set is complete and usable.

python -m forecasting.datasets --check=FOLDER --dataset=waymo

Looks at how every file is put together, opens both splits as a run would, but a
sample of their recordings only, prints what is there, what was skipped and why,
and how much is labeled, and draws ten clips with their labels to
`contact_sheet.png`. With --full all recordings are looked at, which takes as
long as the first run would. Exits with 0 if a run can use the data, also if it
is only a part of the release, else with 1.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict

from forecasting import config as config_lib
from forecasting import presets
from forecasting.frames import inspection, pipeline
from forecasting.frames.inspection import Inspection
from forecasting.report import contact_sheet

SHEET = "contact_sheet.png"
NUM_CLIPS = 10
SPLITS = ("train", "eval")
_SIZE = 224
_SHOWN = 5  # damaged files that are named
# Recordings that a reader looks at. Those of MOVi are a few MB and ScanNet's
# are walked over; videos are decoded, and Waymo's read, from end to end.
SAMPLE = {"movi": 64, "scannet": 32, "grain": 64, "tfds": 64}
SAMPLE_DECODED = 4
# Every frame of a ScanNet clip is decoded before the clip counts.
_FEW = {"scannet": NUM_CLIPS}


def check(dataset: str, path: Path, output: Path, full: bool = False) -> bool:
  """Inspects a download, prints what it finds and draws some clips.

  Args:
    dataset: a name of `pipeline.READERS`.
    path: the folder that the config's `data.path` would name.
    output: folder of the contact sheet and of what the readers remember.
    full: look at all recordings instead of a sample.

  Returns:
    Whether a run can use it.

  Raises:
    OSError: `output` cannot be written.
  """
  print(f"{path}: looked at as {pipeline.DOWNLOADS[dataset]}")
  data = settings(dataset, path, full)
  output.mkdir(parents=True, exist_ok=True)
  needed = inspection.NEEDED.get(dataset, SPLITS)
  found = [
    inspection.inspect(data, split, output / "data", NUM_CLIPS // len(needed))
    for split in SPLITS
  ]
  for item in found:
    print("\n".join(describe(item)))
  clips = [
    (f"{item.split}: {clip['clip_id']}", clip)
    for item in sorted(found, key=lambda item: not item.is_needed)
    for clip in item.clips
  ][:NUM_CLIPS]
  if clips:
    contact_sheet.contact_sheet(dict(clips)).save(output / SHEET)
    print(f"{len(clips)} clips are drawn in {output / SHEET}")
    if full:
      print(f"runs with --config.data.root={output / 'data'} open it faster")
  problems = list(defects(found))
  usable = all(item.is_usable for item in found if item.is_needed)
  verdict = "usable" if usable else "not usable"
  if problems:
    print(f"{verdict}, and not complete: {'; '.join(problems)}")
  else:
    print(f"complete and {verdict}")
  return usable


def settings(dataset: str, path: Path, full: bool = False) -> ConfigDict:
  """Returns `config.data` as the paper's configs have it for a data set.

  Args:
    dataset: a name of `pipeline.READERS`.
    path: the folder of the download.
    full: all recordings instead of a sample.
  """
  data = config_lib.data_config()
  for fields in presets.PAPER.values():
    if fields["data.name"] == dataset:
      data.update({k.removeprefix("data."): v for k, v in fields.items()})
  # Both splits of this one.
  data.eval_name = None
  limit = presets.PAPER["boxes"]["data.train_clips"]
  if not full:
    data.max_recordings = SAMPLE.get(dataset, SAMPLE_DECODED)
    limit = _FEW.get(dataset, limit)
  data.update(
    {
      "name": dataset,
      "path": str(path),
      "size": _SIZE,
      "train_clips": limit,
      "eval_clips": limit,
      # Clips as they were recorded are easier to judge.
      "random_crop": False,
      "random_flip": False,
    }
  )
  return data


def describe(item: Inspection) -> Iterator[str]:
  """Yields lines of text about a split."""
  parts, files = [], item.files
  if files is not None:
    parts.append(f"{files.found} of {files.expected} {files.unit}")
  if item.source is not None:
    labels = " and ".join(item.source.labels) or "no labels"
    tried = " tried" if item.source.name in _FEW else ""
    sampled = " in the sample" if item.sample is not None else ""
    parts.append(f"{len(item.source)} clips{tried} with {labels}{sampled}")
  yield f"{item.split}: {', '.join(parts) or 'does not open'}"
  if files is not None:
    yield f"  read of every file: {files.looked_at}"
  if item.source is None:
    pass
  elif item.sample is not None:
    total = f" of {files.num_recordings}" if files is not None else ""
    yield (
      f"  looked at from end to end: a sample of {item.sample}{total} "
      "recordings, spread over all; --full looks at all"
    )
  else:
    yield "  looked at from end to end: all recordings"
  for problem in files.damaged[:_SHOWN] if files is not None else ():
    yield f"  damaged: {problem}"
  for reason, count in sorted(
    item.source.skipped.items() if item.source else ()
  ):
    yield f"  skipped, {reason}: {count}"
  for name, text in inspection.describe_labels(item.clips).items():
    yield f"  {name}: {text}"
  if item.problem:
    yield f"  {item.problem}"
    if not item.is_needed:
      yield "  (not needed by the paper's protocol)"


def defects(found: Sequence[Inspection]) -> Iterator[str]:
  """Yields what keeps a download from being complete, in a few words."""
  for item in found:
    if not item.is_needed:
      continue
    if (files := item.files) is not None:
      if files.found < files.expected:
        missing = files.expected - files.found
        yield f"{missing} {files.unit} of {item.split} are missing"
      if files.damaged:
        yield f"{len(files.damaged)} files of {item.split} are damaged"
    if item.problem:
      yield f"{item.split} has the problem above"


def main(argv: Sequence[str]) -> int:
  """Parses flags and checks.

  Returns:
    The exit code.
  """
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  output = Path(_OUTPUT.value or f"runs/check_{_DATASET.value}")
  path = Path(_CHECK.value)
  return 0 if check(_DATASET.value, path, output, _FULL.value) else 1


if __name__ == "__main__":
  _CHECK = flags.DEFINE_string("check", None, "Folder of the download.")
  _DATASET = flags.DEFINE_enum(
    "dataset", None, sorted(pipeline.READERS), "What is in it."
  )
  _OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the contact sheet; runs/check_<dataset>."
  )
  _FULL = flags.DEFINE_bool(
    "full", False, "Look at all recordings instead of a sample: hours."
  )
  flags.mark_flags_as_required(["check", "dataset"])
  # Readers name every file they skip; --verbosity=0 shows it.
  logging.set_verbosity(logging.WARNING)
  app.run(main)
