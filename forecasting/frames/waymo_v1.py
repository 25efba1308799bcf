"""Waymo Open, first release format: TFRecord files of `Frame` messages.

One file a segment, one record a frame. Field numbers are those of the public
proto files; see tasks.md 4.4. A record also holds the other cameras and lidar,
ten times as much as the front image; it is read whole once, to verify its
checksum, and from then on only the image.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from forecasting.frames import tfrecord, waymo_segment
from forecasting.frames.protobuf_wire import (
  WireError,
  double,
  fields,
  integer,
  nested,
  offset_within,
  text,
)
from forecasting.frames.waymo_segment import FRONT, NO_LABELS, RawBox, Segment

NO_FRONT = "frame: no front image"
_SUFFIX = "_with_camera_labels"


def list_segments(folder: Path) -> dict[str, Path]:
  """Returns the files of a split's folder by the names of their segments."""
  files = {}
  for path in sorted(folder.glob("*.tfrecord")):
    name = path.stem.removeprefix("segment-").removesuffix(_SUFFIX)
    files[name] = path
  return files


def index_segment(name: str, path: Path) -> Segment:
  """Finds front images and boxes of a segment.

  Args:
    name: Of the segment.
    path: Its file.

  Returns:
    The segment; `places` are offset and length of the images in the file.

  Raises:
    ValueError: If a record or a message in it is damaged; names file, offset
      and field.
    OSError: If the file cannot be read.
  """
  frames: list[tuple[int, tuple[int, int]]] = []
  boxes: list[RawBox] = []
  skipped: Counter[str] = Counter()
  for span in tfrecord.read_spans(path):
    record = tfrecord.read_record(path, span)
    try:
      time, image, labels = read_frame(record)
      if image is None:
        skipped[NO_FRONT] += 1
        continue
      place = (span.offset + offset_within(image, record), len(image))
      frames.append((time, place))
      if labels is None:
        skipped[NO_LABELS] += 1
      boxes += [_read_label(time, label) for label in labels or ()]
    except WireError as error:
      raise WireError(
        f"{path}: the record at byte {span.offset} is no Frame: {error}"
      ) from error
  return waymo_segment.assemble(name, frames, boxes, skipped)


def read_images(path: Path, places: Sequence[tuple[int, int]]) -> list[bytes]:
  """Reads front images.

  Args:
    path: The file.
    places: From `index_segment`.

  Returns:
    JPEG files.

  Raises:
    ValueError: If the file got shorter; names file and offset.
    OSError: If it cannot be read.
  """
  images = []
  with path.open("rb") as file:
    for offset, length in places:
      file.seek(offset)
      images.append(file.read(length))
      if len(images[-1]) < length:
        raise WireError(f"{path} got shorter: no image at byte {offset}")
  return images


def read_frame(
  record: memoryview,
) -> tuple[int, memoryview | None, list[memoryview] | None]:
  """Reads a `Frame` message.

  Args:
    record: Its bytes.

  Returns:
    Time in microseconds, the front camera's JPEG file or None, and its labels:
    `Label` messages, or None where the camera was not labelled.

  Raises:
    WireError: If it is damaged; names the field.
  """
  time, image, labels = None, None, None
  for number, kind, value in fields(record):
    if number == 2:
      time = integer(kind, value, "Frame.timestamp_micros")
    elif number == 4:
      camera, parts = _camera(nested(kind, value, "Frame.images"), "images")
      if camera == FRONT and parts and parts[-1] and image is None:
        image = parts[-1]
    elif number == 8:
      message = nested(kind, value, "Frame.camera_labels")
      camera, parts = _camera(message, "camera_labels")
      if camera == FRONT:
        labels = [*(labels or ()), *parts]
  if time is None:
    raise WireError("Frame.timestamp_micros is missing")
  return time, image, labels


def _camera(message: memoryview, name: str) -> tuple[int, list[memoryview]]:
  """Camera, and all fields 2, of a CameraImage or CameraLabels message."""
  camera, parts = 0, []
  for number, kind, value in fields(message):
    if number == 1:
      camera = integer(kind, value, f"Frame.{name}.name")
    elif number == 2:
      parts.append(nested(kind, value, f"Frame.{name}, field 2"))
  return camera, parts


def _read_label(time: int, message: memoryview) -> RawBox:
  """Reads a Label; one without a box has a box of nan."""
  object_name = ""
  # Of camera boxes `length` (5) is the extent along x and `width` (4) along y.
  box = dict.fromkeys((1, 2, 5, 4), float("nan"))
  for number, kind, value in fields(message):
    if number == 4:
      object_name = text(kind, value, "Label.id")
    elif number == 1:
      box = dict.fromkeys(box, 0.0)
      for inner, inner_kind, inner_value in fields(
        nested(kind, value, "Label.box")
      ):
        if inner in box:
          box[inner] = double(inner_kind, inner_value, f"Label.Box {inner}")
  if not object_name:
    raise WireError("Label.id is missing")
  x, y, size_x, size_y = box.values()
  return time, object_name, x, y, size_x, size_y
