"""The folder that tensorflow-datasets leaves on disk, without TensorFlow.

`dataset_info.json` says which splits there are and how many records each shard
has; shards are ArrayRecord or TFRecord files of serialized Examples.
"""

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader

from forecasting.frames import tfrecord

INFO = "dataset_info.json"
FEATURES = "features.json"
FORMATS = ("array_record", "tfrecord")
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_DEPTH = 4  # folders below a download in which a data set is looked for
_READ_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class DatasetFolderError(ValueError):
  """A folder that is no data set, or a damaged one; names the file."""


@dataclass(frozen=True)
class Shard:
  """One file of records.

  Attributes:
    path: The file.
    num_records: How many it must hold.
    file_format: 'array_record' or 'tfrecord'.
  """

  path: Path
  num_records: int
  file_format: str


@dataclass(frozen=True)
class TfdsFolder:
  """A data set.

  Attributes:
    path: The folder with `dataset_info.json`.
    name: Of the data set.
    file_format: 'array_record' or 'tfrecord'.
    splits: Name to the file name template and the records of every shard.
  """

  path: Path
  name: str
  file_format: str
  splits: dict[str, tuple[str, tuple[int, ...]]]

  def shards(self, split: str) -> list[Shard]:
    """Lists the files of a split.

    Raises:
      DatasetFolderError: If there is no such split, or files are missing.
    """
    if split not in self.splits:
      raise DatasetFolderError(
        f"{self.path / INFO} has no split {split!r}; it has "
        f"{sorted(self.splits)}"
      )
    # A copy in the other format may lie beside an unchanged description.
    candidates = sorted(FORMATS, key=lambda form: form != self.file_format)
    missing = []
    for file_format in candidates:
      shards = self._named(split, file_format)
      missing.append([s.path.name for s in shards if not s.path.is_file()])
      if not missing[-1]:
        return shards
    total = len(self.splits[split][1])
    names = min(missing, key=len)
    raise DatasetFolderError(
      f"{self.path} lacks {len(names)} of the {total} files of split "
      f"{split!r}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}. "
      "Download them."
    )

  def _named(self, split: str, file_format: str) -> list[Shard]:
    template, lengths = self.splits[split]
    shards = []
    for k, length in enumerate(lengths):
      name = template
      for field, value in {
        "{DATASET}": self.name,
        "{SPLIT}": split,
        "{FILEFORMAT}": file_format,
        "{SHARD_X_OF_Y}": f"{k:05d}-of-{len(lengths):05d}",
        "{SHARD_INDEX}": f"{k:05d}",
        "{NUM_SHARDS}": f"{len(lengths):05d}",
      }.items():
        name = name.replace(field, value)
      shards.append(Shard(self.path / name, length, file_format))
    return shards

  def features(self) -> dict:
    """Returns the `features.json` of the data set, {} if there is none.

    Raises:
      DatasetFolderError: If it is damaged.
    """
    path = self.path / FEATURES
    return _read_json(path) if path.is_file() else {}


def find_folder(path: str | Path) -> TfdsFolder:
  """Opens the data set at or below a folder.

  Args:
    path: The folder with `dataset_info.json`, or one a few levels above, such
      as the one the download was copied to.

  Returns:
    The data set.

  Raises:
    FileNotFoundError: If there is none.
    DatasetFolderError: If there are several, or its description is damaged.
  """
  base = Path(path)
  if not base.is_dir():
    raise FileNotFoundError(f"data.path={str(path)!r} does not exist")
  for depth in range(_DEPTH + 1):
    found = sorted(base.glob("/".join(["*"] * depth + [INFO])))
    if len(found) > 1:
      names = ", ".join(str(file.parent) for file in found)
      raise DatasetFolderError(
        f"data.path={str(path)!r} holds several data sets; choose one of "
        f"{names}"
      )
    if found:
      return _read_info(found[0])
  raise FileNotFoundError(
    f"data.path={str(path)!r} holds no {INFO}: give the folder of a TFDS data "
    "set, such as movi_e/256x256/1.0.0"
  )


def _read_info(path: Path) -> TfdsFolder:
  info = _read_json(path)
  name = info.get("name")
  if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
    raise DatasetFolderError(f"{path}: field 'name' is {name!r}, not a name")
  file_format = info.get("fileFormat", "tfrecord")
  if file_format not in FORMATS:
    raise DatasetFolderError(
      f"{path}: field 'fileFormat' is {file_format!r}; readable are "
      f"{', '.join(FORMATS)}"
    )
  splits = {}
  entries = info.get("splits")
  for entry in entries if isinstance(entries, list) else []:
    try:
      template = entry.get("filepathTemplate") or _TEMPLATE
      lengths = tuple(int(length) for length in entry["shardLengths"])
      splits[str(entry["name"])] = (Path(template).name, lengths)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise DatasetFolderError(
        f"{path}: field 'splits' has an entry {str(entry)[:60]!r} without "
        f"proper 'name' and 'shardLengths': {error}"
      ) from error
    if any(length < 0 for length in lengths):
      raise DatasetFolderError(f"{path}: a negative number in 'shardLengths'")
  if not splits:
    raise DatasetFolderError(f"{path}: field 'splits' lists no split")
  return TfdsFolder(path.parent, name, file_format, splits)


def _read_json(path: Path) -> dict:
  try:
    content = json.loads(path.read_text())
  except (OSError, ValueError, RecursionError) as error:
    raise DatasetFolderError(f"{path} cannot be read: {error}") from error
  if not isinstance(content, dict):
    raise DatasetFolderError(f"{path} holds no JSON object")
  return content


def locate(shard: Shard) -> list[tfrecord.Span] | None:
  """Finds the records of a TFRecord shard, and checks how many there are.

  Args:
    shard: The file.

  Returns:
    Where they are; None for ArrayRecord, which has an index of its own.

  Raises:
    DatasetFolderError: If the number differs from the description.
    ValueError: If the file is damaged.
    OSError: If it cannot be read.
  """
  if shard.file_format == "tfrecord":
    spans = tfrecord.read_spans(shard.path)
    found = len(spans)
  else:
    spans = None
    found = _open_array_record(shard.path).num_records()
  if found != shard.num_records:
    raise DatasetFolderError(
      f"{shard.path} holds {found} records, {INFO} says {shard.num_records}: "
      "it is damaged or incomplete; download it again"
    )
  return spans


def read(
  shard: Shard, index: int, span: tfrecord.Span | None, verify: bool = True
) -> memoryview:
  """Reads one record.

  Args:
    shard: The file.
    index: Which record.
    span: Where it is, if the file is a TFRecord.
    verify: Whether the checksum of a TFRecord is verified, which needs all of
      the record; else only what is looked at is read. ArrayRecord always is.

  Returns:
    The serialized Example.

  Raises:
    ValueError: If the record is damaged; names file and record.
    OSError: If the file cannot be read.
  """
  if span is not None and verify:
    return tfrecord.read_record(shard.path, span)
  if span is not None:
    return tfrecord.map_record(shard.path, span)
  try:
    return memoryview(_open_array_record(shard.path).read([index])[0])
  except (ValueError, RuntimeError, IndexError) as error:
    raise DatasetFolderError(
      f"{shard.path}: record {index} cannot be read: {error}. Download the "
      "file again."
    ) from error


def _open_array_record(path: Path) -> ArrayRecordReader:
  state = path.stat()  # A file that was replaced is another one.
  return _array_record(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _array_record(path: Path, size: int, mtime: int) -> ArrayRecordReader:
  del size, mtime
  try:
    reader = ArrayRecordReader(str(path), _READ_OPTIONS)
    reader.num_records()
  except (ValueError, RuntimeError, OSError) as error:
    raise DatasetFolderError(
      f"{path} is no readable ArrayRecord file: {error}. Download it again."
    ) from error
  return reader
