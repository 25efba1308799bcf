"""Small Waymo Open segments in both release formats, from one description."""

import io
from dataclasses import dataclass, field

import made_records
import numpy as np
import pyarrow as pa
from ml_collections import ConfigDict
from PIL import Image
from pyarrow import parquet

WIDTH, HEIGHT = 1920, 1280
BOX = "[CameraBoxComponent].box."


def times(count, start=1_550_000_000_000_000):
  """Microseconds of frames at 10 Hz, not quite regular."""
  jitter = np.random.default_rng(0).integers(-300, 300, count)
  return [int(start + 100_000 * i + jitter[i]) for i in range(count)]


def jpeg(index, height=64, width=96):
  """A gray image, the frame's number in its brightness, sharp on the right."""
  pixels = np.full((height, width, 3), 4 * (index % 60) + 10, np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "JPEG", quality=95)
  return file.getvalue()


def steady(frames, center=(960.0, 640.0), size=(200.0, 150.0), speed=4.0):
  """Boxes of an object that moves to the right."""
  return {i: (center[0] + speed * i, center[1], *size) for i in frames}


@dataclass
class MadeSegment:
  """A segment: time of every frame; per object, frame to box in pixels."""

  times: list
  objects: dict
  name: str = "1001_100_000_120_000"
  images: dict = field(default_factory=dict)  # frame to JPEG, if special
  unlabelled: tuple = ()

  def boxes(self):
    """(time, object, box) of the front camera, in no particular order."""
    rows = [
      (self.times[i], name, tuple(map(float, box)))
      for name, boxes in self.objects.items()
      for i, box in boxes.items()
    ]
    order = np.random.default_rng(1).permutation(len(rows))
    return [rows[i] for i in order]

  def frames(self):
    """(time, camera, JPEG), in no particular order, side cameras between."""
    rows = [
      (time, 1, self.images.get(i) or jpeg(i))
      for i, time in enumerate(self.times)
    ]
    rows += [(time, 3, b"side") for time in self.times[::5]]
    order = np.random.default_rng(2).permutation(len(rows))
    return [rows[i] for i in order]


def write_v2(
  folder, segment, split="training", groups=3, camera=None, **changes
):
  """Writes both components; `changes` replace or drop (None) their columns."""
  camera = camera or (lambda number: number)
  rows = segment.frames()
  images = {
    "key.segment_context_name": [segment.name] * len(rows),
    "key.frame_timestamp_micros": pa.array(
      [row[0] for row in rows], pa.int64()
    ),
    "key.camera_name": pa.array([camera(row[1]) for row in rows]),
    "[CameraImageComponent].image": pa.array(
      [row[2] for row in rows], pa.binary()
    ),
    "[CameraImageComponent].pose_timestamp": [0.0] * len(rows),
  }
  rows = segment.boxes()
  rows += [(segment.times[0], "side", (1.0, 1.0, 1.0, 1.0))]
  boxes = {
    "key.segment_context_name": [segment.name] * len(rows),
    "key.frame_timestamp_micros": pa.array(
      [row[0] for row in rows], pa.int64()
    ),
    "key.camera_name": pa.array(
      [camera(3 if row[1] == "side" else 1) for row in rows]
    ),
    "key.camera_object_id": pa.array([row[1] for row in rows], pa.string()),
  }
  for k, part in enumerate(("center.x", "center.y", "size.x", "size.y")):
    values = [row[2][k] for row in rows]
    boxes[BOX + part] = pa.array(values, pa.float64())
  boxes["[CameraBoxComponent].type"] = pa.array([1] * len(rows), pa.int8())
  paths = []
  for component, columns in (("camera_image", images), ("camera_box", boxes)):
    for name, value in changes.get(component, {}).items():
      columns[name] = value
    columns = {k: v for k, v in columns.items() if v is not None}
    path = folder / split / component / f"{segment.name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    size = -(-max(1, len(table)) // groups)
    parquet.write_table(table, path, row_group_size=size)
    paths.append(path)
  return paths


def label(name, box):
  """A Label message; for cameras width and length are swapped."""
  f = made_records.field
  x, y, size_x, size_y = map(float, box)
  message = f(1, x) + f(2, y) + f(3, 0.0) + f(5, size_x) + f(4, size_y)
  return f(1, message) + f(3, 1) + f(4, name) + f(5, 1)


def frame(segment, index):
  """A Frame message, with another camera and something like lidar."""
  f = made_records.field
  time = segment.times[index]
  front = f(1, 1) + f(2, segment.images.get(index) or jpeg(index))
  side = f(1, 3) + f(2, b"side")
  message = f(1, f(1, segment.name)) + f(2, time) + f(4, side) + f(4, front)
  message += f(5, b"lidar")
  message += f(8, f(1, 3) + f(2, label("side", (1, 1, 1, 1))))
  if index not in segment.unlabelled:
    labels = b"".join(
      f(2, label(name, box)) for at, name, box in segment.boxes() if at == time
    )
    message += f(8, f(1, 1) + labels)
  return message


def write_v1(folder, segment, split="training", records=None):
  """Writes the segment's file, frames shuffled."""
  name = f"segment-{segment.name}_with_camera_labels.tfrecord"
  path = folder / split / name
  path.parent.mkdir(parents=True, exist_ok=True)
  order = np.random.default_rng(3).permutation(len(segment.times))
  records = records or [frame(segment, i) for i in order]
  path.write_bytes(made_records.tfrecord(records))
  return path


def settings(path, **changes):
  """The fields of config.data that the reader uses."""
  return ConfigDict(
    {
      "name": "waymo",
      "path": str(path),
      "size": 16,
      "num_frames": 16,
      "num_boxes": 25,
      "window_stride": 3,
      "train_clips": 100,
      "eval_clips": 100,
      "workers": 1,
      **changes,
    }
  )
