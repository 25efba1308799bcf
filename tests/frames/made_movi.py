"""Small MOVi scenes, ray-cast exactly, and their TFDS folder.

A camera drives past a floor, a dome and two boxes, one of which moves and
turns. Everything a record holds follows from the same rays.
"""

import json

import made_records
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from ml_collections import ConfigDict

DOME = 30.0
SIZES = np.asarray([[1.6, 1.2, 2.0], [1.0, 1.0, 1.2]])
FOCAL = 1.1  # over the sensor's width
CORNERS = np.asarray(
  [[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]
)


class MadeScene:
  """Poses and the images that follow from them."""

  def __init__(self, seed=0, num_frames=8, height=24, width=32):
    rng = np.random.default_rng(seed)
    self.shape = (num_frames, height, width)
    time = np.linspace(0, 1, num_frames)[:, None]
    self.camera_position = [-6.0, rng.uniform(-1, 0), 2.5] + time * [0, 1.5, 0]
    self.camera_quaternion = np.broadcast_to(
      # Looks along +x, a little down.
      _multiply(_about(2, -np.pi / 2), _about(0, np.pi / 2 - 0.15)),
      (num_frames, 4),
    )
    still = np.broadcast_to([2.0, 0.6, 1.0], (num_frames, 3))
    moving = [0.0, -1.2, 0.6] + time * [0.3, 2.0, 0.0]
    self.positions = np.stack([still, moving])
    turn = rng.uniform(-0.4, 0.4) + time[:, 0] * np.asarray([[0.0], [0.9]])
    self.quaternions = np.stack(
      [np.stack([_about(2, angle) for angle in row]) for row in turn]
    )
    rotations = self.rotations()
    corners = np.einsum("ktij,kcj->ktci", rotations, CORNERS * SIZES[:, None])
    self.corners = corners + self.positions[:, :, None]
    images = [self.look(t, self.rays()) for t in range(num_frames)]
    self.distance, self.segments, self.coordinates, self.normals = (
      np.stack([image[k] for image in images]) for k in range(4)
    )

  def rotations(self):
    return np.stack(
      [np.stack([matrix(q) for q in row]) for row in self.quaternions]
    )

  def rays(self):
    """Directions through the pixels' centers, in camera axes."""
    _, height, width = self.shape
    y, x = np.mgrid[:height, :width] + 0.5
    focal = np.asarray([FOCAL, FOCAL * height / width])
    return np.stack(
      [
        (x / width - 0.5) / focal[0],
        (0.5 - y / height) / focal[1],
        -np.ones_like(x),
      ],
      -1,
    )

  def look(self, t, rays):
    """Distance, segment, box coordinates and normal along camera rays."""
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    rays = rays @ matrix(self.camera_quaternion[t]).T
    origin = self.camera_position[t]
    b = rays @ origin
    distance = -b + np.sqrt(b * b - origin @ origin + DOME**2)
    normal = -(origin + distance[..., None] * rays) / DOME
    with np.errstate(divide="ignore", invalid="ignore"):
      floor = np.where(rays[..., 2] < 0, -origin[2] / rays[..., 2], np.inf)
    normal[floor < distance] = [0, 0, 1]
    distance = np.minimum(distance, floor)
    segment = np.zeros(distance.shape, np.uint8)
    inside = np.zeros_like(rays)
    for k, rotation in enumerate(self.rotations()[:, t]):
      near, axis, local = self._hit(k, t, rotation, origin, rays)
      closer = near < distance
      distance = np.where(closer, near, distance)
      segment[closer] = k + 1
      inside[closer] = local[closer] + 0.5
      outward = np.sign(np.take_along_axis(local, axis[..., None], -1))
      face = np.eye(3)[axis] * outward
      normal[closer] = (face @ rotation.T)[closer]
    return distance, segment, np.clip(inside, 0, 1), normal

  def _hit(self, k, t, rotation, origin, rays):
    """Slab test in the box's axes, scaled to the unit box."""
    start = (origin - self.positions[k, t]) @ rotation / SIZES[k]
    step = rays @ rotation / SIZES[k]
    with np.errstate(divide="ignore"):
      bounds = np.sort(
        np.stack([(-0.5 - start), (0.5 - start)])[
          (slice(None), *[None] * (rays.ndim - 1))
        ]
        / step,
        axis=0,
      )
    axis = bounds[0].argmax(-1)
    near, far = bounds[0].max(-1), bounds[1].min(-1)
    near = np.where((near < far) & (near > 0), near, np.inf)
    finite = np.where(np.isfinite(near), near, 0)
    return near, axis, start + finite[..., None] * step

  def features(self, name="a"):
    """The lists of the record."""
    frames, height, width = self.shape
    low, high = self.distance.min() - 0.1, self.distance.max() + 0.1
    depth = np.round((self.distance - low) / (high - low) * 65535)
    video = (self.normals * 100 + 128).astype(np.uint8)
    k = len(SIZES)

    def images(array):
      return [made_records.png(frame, (0,)) for frame in array]

    def wide(values):
      return np.round(values * 65535).astype(np.uint16)

    return {
      "video": images(video),
      "segmentations": images(self.segments),
      "depth": images(depth.astype(np.uint16)),
      "object_coordinates": images(wide(self.coordinates)),
      "normal": images(wide((self.normals + 1) / 2)),
      "forward_flow": np.zeros(3, int),
      "instances/mass": np.ones(k),
      "instances/category": np.zeros(k, int),
      "instances/asset_id": [b"box"] * k,
      "instances/positions": self.positions.ravel(),
      "instances/quaternions": self.quaternions.ravel(),
      "instances/bboxes_3d": self.corners.ravel(),
      "instances/visibility": np.ones(k * frames, int),
      "camera/positions": self.camera_position.ravel(),
      "camera/quaternions": self.camera_quaternion.ravel(),
      "camera/focal_length": np.asarray([FOCAL * 32]),
      "camera/sensor_width": np.asarray([32.0]),
      "camera/field_of_view": np.asarray([0.8]),
      "metadata/depth_range": np.asarray([low, high]),
      "metadata/width": np.asarray([width]),
      "metadata/height": np.asarray([height]),
      "metadata/num_frames": np.asarray([frames]),
      "metadata/num_instances": np.asarray([k]),
      "metadata/video_name": [name.encode()],
    }


def _about(axis, angle):
  quaternion = np.zeros(4)
  quaternion[0], quaternion[axis + 1] = np.cos(angle / 2), np.sin(angle / 2)
  return quaternion


def _multiply(a, b):
  w, v = a[0] * b[0] - a[1:] @ b[1:], np.cross(a[1:], b[1:])
  return np.asarray([w, *(v + a[0] * b[1:] + b[0] * a[1:])])


def matrix(quaternion):
  """Rotation of a unit quaternion, by Rodrigues' formula."""
  w, axis = quaternion[0], np.asarray(quaternion[1:])
  cross = np.cross(axis, np.eye(3)).T
  return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def write_folder(path, splits, shape, file_format="tfrecord", shards=1):
  """Writes a TFDS folder.

  Args:
    path: The folder.
    splits: Name to serialized records.
    shape: Frames, height and width that features.json states.
    file_format: 'tfrecord' or 'array_record'.
    shards: Files per split.
  """
  path.mkdir(parents=True, exist_ok=True)
  info = {"name": "movi_e", "fileFormat": file_format, "splits": []}
  for split, records in splits.items():
    parts = [records[k::shards] for k in range(shards)]
    for k, part in enumerate(parts):
      name = f"movi_e-{split}.{file_format}-{k:05d}-of-{shards:05d}"
      if file_format == "tfrecord":
        (path / name).write_bytes(made_records.tfrecord(part))
        continue
      writer = ArrayRecordWriter(str(path / name), "group_size:1")
      for record in part:
        writer.write(record)
      writer.close()
    lengths = [str(len(part)) for part in parts]
    info["splits"].append({"name": split, "shardLengths": lengths})
  (path / "dataset_info.json").write_text(json.dumps(info))
  video = {"video": {"shape": {"dimensions": [*map(str, shape), "3"]}}}
  features = {"featuresDict": {"features": {"video": video}}}
  (path / "features.json").write_text(json.dumps(features))


def settings(path, **changes):
  """The fields of config.data that the reader uses."""
  return ConfigDict(
    {
      "name": "movi",
      "path": str(path),
      "size": 16,
      "num_frames": 6,
      "num_points": 12,
      "train_clips": 100,
      "eval_clips": 100,
      "workers": 1,
      **changes,
    }
  )
