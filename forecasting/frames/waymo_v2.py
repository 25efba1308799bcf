"""Waymo Open, second release format: a Parquet file a component and segment.

Images lie with those of the other cameras, so only the columns that say which
is which are read for the index, and of the images only the row groups that
hold wanted ones, a few rows at a time.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from forecasting.frames import waymo_segment
from forecasting.frames.waymo_segment import FRONT, RawBox, Segment

IMAGES, BOXES = "camera_image", "camera_box"
NO_KEY = "row: no time, camera or object"

_TIME = "key.frame_timestamp_micros"
_CAMERA = "key.camera_name"
_OBJECT = "key.camera_object_id"
_IMAGE = "[CameraImageComponent].image"
_BOX = tuple(
  f"[CameraBoxComponent].box.{part}"
  for part in ("center.x", "center.y", "size.x", "size.y")
)
_IMAGE_COLUMNS = (_TIME, _CAMERA, _IMAGE)
_BOX_COLUMNS = (_TIME, _CAMERA, _OBJECT, *_BOX)
_FRONT_NAMES = {str(FRONT), "FRONT"}
_ROWS_AT_A_TIME = 32  # images are large


class ParquetError(ValueError):
  """A Parquet file that is damaged or of another kind; names the file."""


def list_segments(folder: Path) -> tuple[dict[str, tuple[Path, Path]], Counter]:
  """Lists the segments of a split's folder.

  Args:
    folder: With the folders of the components.

  Returns:
    Files of images and boxes by segment, and how many segments lack one.
  """
  names = {
    component: {path.stem for path in (folder / component).glob("*.parquet")}
    for component in (IMAGES, BOXES)
  }
  lacking: Counter[str] = Counter()
  for component, other in ((IMAGES, BOXES), (BOXES, IMAGES)):
    count = len(names[other] - names[component])
    if count:
      lacking[f"segment: no {component} file"] = count
  return {
    name: (
      folder / IMAGES / f"{name}.parquet",
      folder / BOXES / f"{name}.parquet",
    )
    for name in sorted(names[IMAGES] & names[BOXES])
  }, lacking


def check_file(path: Path) -> None:
  """Reads the index of a component's file.

  Args:
    path: The file, in the folder of the component.

  Raises:
    ParquetError: If it is damaged or lacks a column.
  """
  is_image = path.parent.name == IMAGES
  with _open(path, _IMAGE_COLUMNS if is_image else _BOX_COLUMNS):
    pass


def index_segment(name: str, images: Path, boxes: Path) -> Segment:
  """Finds front images and boxes of a segment.

  Args:
    name: Of the segment.
    images: File of the component `camera_image`.
    boxes: File of the component `camera_box`.

  Returns:
    The segment; `places` are row group and row within it.

  Raises:
    ParquetError: If a file is damaged or lacks a column; names both.
    OSError: If it cannot be read.
  """
  skipped: Counter[str] = Counter()
  frames = []
  with _open(images, _IMAGE_COLUMNS) as file:
    for group in range(file.num_row_groups):
      table = file.read_row_group(group, columns=[_TIME, _CAMERA])
      rows = zip(_integers(table, _TIME), table[_CAMERA].to_pylist())
      for row, (time, camera) in enumerate(rows):
        if time is None or camera is None:
          skipped[NO_KEY] += 1
        elif _is_front(camera):
          frames.append((time, (group, row)))
  raw: list[RawBox] = []
  with _open(boxes, _BOX_COLUMNS) as file:
    for group in range(file.num_row_groups):
      table = file.read_row_group(group, columns=list(_BOX_COLUMNS))
      sizes = [table[column].cast(pa.float64()).to_pylist() for column in _BOX]
      for time, camera, object_name, *box in zip(
        _integers(table, _TIME),
        table[_CAMERA].to_pylist(),
        table[_OBJECT].cast(pa.string()).to_pylist(),
        *sizes,
      ):
        if time is None or camera is None or not object_name:
          skipped[NO_KEY] += 1
        elif _is_front(camera):
          values = [float("nan") if part is None else part for part in box]
          raw.append((time, object_name, *values))
  return waymo_segment.assemble(name, frames, raw, skipped)


def _integers(table: pa.Table, column: str) -> list[int | None]:
  return table[column].cast(pa.int64()).to_pylist()


def _is_front(camera: object) -> bool:
  """Whether a camera, a number or a name, is the front one."""
  if isinstance(camera, bytes):
    camera = camera.decode("utf-8", "replace")
  return str(camera).strip().upper() in _FRONT_NAMES


def read_images(
  path: Path,
  places: Sequence[tuple[int, int]],
  wanted: Sequence[tuple[int, int]],
) -> list[bytes]:
  """Reads front images.

  Args:
    path: File of the component `camera_image`.
    places: Row groups and rows, from `index_segment`.
    wanted: Those of all frames that any clip shows: the next clips' images are
      often in the same row group, and kept.

  Returns:
    JPEG files.

  Raises:
    ParquetError: If the file is damaged; names it.
    OSError: If it cannot be read.
  """
  images = []
  state = path.stat()  # A file that was replaced is another one.
  identity = state.st_size, state.st_mtime_ns
  for group, row in places:
    rows = tuple(sorted(r for g, r in wanted if g == group))
    images.append(_read_rows(path, identity, group, rows)[row])
  return images


@functools.lru_cache(maxsize=2)
def _read_rows(
  path: Path, identity: tuple[int, int], group: int, rows: tuple[int, ...]
) -> dict[int, bytes]:
  """JPEG files of some rows of a row group."""
  del identity
  found = {}
  start, left = 0, list(reversed(rows))
  with _open(path, (_IMAGE,)) as file:
    for batch in file.iter_batches(
      _ROWS_AT_A_TIME, [group], [_IMAGE], use_threads=False
    ):
      while left and left[-1] < start + batch.num_rows:
        row = left.pop()
        image = batch.column(0)[row - start].as_py()
        if not isinstance(image, bytes):
          raise ParquetError(
            f"{path}: no image in row {row} of row group {group}"
          )
        found[row] = image
      start += batch.num_rows
      if not left:
        return found
  raise ParquetError(f"{path}: row group {group} ends before row {left[-1]}")


@contextmanager
def _open(path: Path, columns: Sequence[str]) -> Iterator[parquet.ParquetFile]:
  """Opens a file with certain columns; errors within name it."""
  try:
    # Mapped, since otherwise a whole column of a row group is loaded at once.
    with parquet.ParquetFile(
      path, memory_map=True, page_checksum_verification=True
    ) as file:
      names = file.schema_arrow.names
      missing = [column for column in columns if column not in names]
      if missing:
        raise ParquetError(
          f"{path} has no column {', '.join(map(repr, missing))}; it is no "
          f"{path.parent.name} file of Waymo Open v2"
        )
      yield file
  except ParquetError:
    raise
  except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
    raise ParquetError(
      f"{path} cannot be read as Parquet: {error}. Download it again."
    ) from error
