"""One record of Kubric MOVi: checked on opening, images decoded on demand.

Records are `tf.train.Example`s with the keys of tasks.md 4.3.1. Images are
PNG files, one a frame.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float32, UInt8, UInt16
from PIL import Image

from forecasting.frames import movi_tracks
from forecasting.frames.protobuf_wire import Example, WireError

UNREADABLE = "unreadable record"
INCOMPLETE = "missing feature"
TOO_FEW = "too few images"
UNEQUAL = "instances of different lengths"
NO_DEPTH = "empty depth range"
WRONG_SIZE = "images of another size"
NOT_FINITE = "numbers not finite"

MAX_SIDE = 8192  # of a frame; the releases have up to 512

# Images of a frame: bits per channel and PNG color type (0 grey, 2 RGB).
_IMAGES = {
  "video": (8, 2),
  "segmentations": (8, 0),
  "depth": (16, 0),
  "normal": (16, 2),
  "object_coordinates": (16, 2),
}
# Values of each instance's lists: once, or in every frame.
_ONCE = {
  "bytes": ("asset_id",),
  "float": ("mass", "friction", "restitution", "scale"),
  "int64": ("category", "is_dynamic"),
}
_PER_FRAME = {
  "positions": 3,
  "velocities": 3,
  "angular_velocities": 3,
  "quaternions": 4,
  "bboxes_3d": 24,
  "image_positions": 2,
}
_PNG_HEADER = struct.Struct(">8sI4sIIBB")
_DAMAGED = (OSError, SyntaxError, ValueError, struct.error, zlib.error)


class SceneError(ValueError):
  """A record that gives no clips.

  Attributes:
    reason: One of the few that records are counted by.
    detail: Which feature and what is wrong with it.
  """

  def __init__(self, reason: str, detail: str):
    super().__init__(f"{reason}: {detail}")
    self.reason = reason
    self.detail = detail


@dataclass(frozen=True)
class FrameFormat:
  """What the features of a data set say about its videos.

  Attributes:
    num_frames: Frames of a video; None takes each record's own number.
    height: Rows; None takes each record's own.
    width: Columns.
  """

  num_frames: int | None = None
  height: int | None = None
  width: int | None = None


class Scene:
  """A record.

  Attributes:
    name: Of the video, unique in its split.
    num_frames: Of the video.
    height: Rows of the frames.
    width: Columns of the frames.
    num_instances: Objects.
  """

  def __init__(
    self, record: bytes | memoryview, expected: FrameFormat | None = None
  ):
    """Checks everything but the images' pixels.

    Args:
      record: The serialized Example.
      expected: What its videos must be like.

    Raises:
      SceneError: If something is missing or does not fit together.
    """
    expected = expected or FrameFormat()
    try:
      self._example = Example(record)
      if "video" not in self._example:
        raise SceneError(INCOMPLETE, "no feature 'video'")
      self._read_metadata(expected)
      self._images = {name: self._check_images(name) for name in _IMAGES}
      self._read_camera()
      self._read_instances()
    except WireError as error:
      reason = INCOMPLETE if "is missing" in str(error) else UNREADABLE
      raise SceneError(reason, str(error)) from error

  def _read_metadata(self, expected: FrameFormat) -> None:
    """Name and sizes."""
    names = self._example.bytes_list("metadata/video_name")
    if len(names) != 1:
      raise SceneError(INCOMPLETE, f"{len(names)} values of video_name")
    try:
      self.name = bytes(names[0]).decode()
    except UnicodeDecodeError as error:
      raise SceneError(UNREADABLE, f"metadata/video_name: {error}") from error
    self.num_frames = self._size("num_frames", expected.num_frames)
    self.height = self._size("height", expected.height)
    self.width = self._size("width", expected.width)
    # It has no bound but the number of values, checked where they are read.
    (self.num_instances,) = self._integer("num_instances")
    if not 0 <= self.num_instances <= np.iinfo(np.uint8).max:
      raise SceneError(UNEQUAL, f"{self.num_instances} instances")
    low, high = self._floats("metadata/depth_range", 2)
    if not high > low:
      raise SceneError(NO_DEPTH, f"metadata/depth_range {low} to {high}")
    self._depth_range = float(low), float(high)

  def _integer(self, name: str) -> list[int]:
    values = self._example.integers(f"metadata/{name}")
    if len(values) != 1:
      raise SceneError(INCOMPLETE, f"{len(values)} values of metadata/{name}")
    return [int(values[0])]

  def _size(self, name: str, expected: int | None) -> int:
    (value,) = self._integer(name)
    if expected is not None and value != expected:
      reason = TOO_FEW if name == "num_frames" else WRONG_SIZE
      raise SceneError(reason, f"metadata/{name} {value}, not {expected}")
    if not 0 < value <= MAX_SIDE:
      raise SceneError(WRONG_SIZE, f"metadata/{name} is {value}")
    return value

  def _floats(self, name: str, count: int) -> Float32[np.ndarray, "count"]:
    values = self._example.floats(name)
    if len(values) != count:
      reason = UNEQUAL if name.startswith("instances/") else INCOMPLETE
      raise SceneError(reason, f"{name} has {len(values)} values, not {count}")
    if not np.isfinite(values).all():
      raise SceneError(NOT_FINITE, name)
    return values

  def _check_images(self, name: str) -> list[memoryview]:
    """The PNG files of a feature, by their headers."""
    files = self._example.bytes_list(name)
    if len(files) != self.num_frames:
      raise SceneError(TOO_FEW, f"{name} has {len(files)} of {self.num_frames}")
    bits, color = _IMAGES[name]
    wanted = (b"IHDR", self.width, self.height, bits, color)
    for frame, file in enumerate(files):
      header = bytes(file[: _PNG_HEADER.size])
      if len(header) < _PNG_HEADER.size or header[:8] != b"\x89PNG\r\n\x1a\n":
        raise SceneError(UNREADABLE, f"frame {frame} of {name} is no PNG file")
      found = _PNG_HEADER.unpack(header)[2:]
      if found != wanted:
        raise SceneError(
          WRONG_SIZE,
          f"frame {frame} of {name}: {found[1:]}, expected {wanted[1:]} "
          "(width, height, bits, PNG color type)",
        )
    return files

  def _read_camera(self) -> None:
    frames = self.num_frames
    position = self._floats("camera/positions", 3 * frames)
    rotation = self._floats("camera/quaternions", 4 * frames)
    (focal_length,) = self._floats("camera/focal_length", 1)
    (sensor_width,) = self._floats("camera/sensor_width", 1)
    if not (focal_length > 0 and sensor_width > 0):
      raise SceneError(NOT_FINITE, "camera/focal_length or sensor_width <= 0")
    self._focal = float(focal_length) / float(sensor_width)
    self._camera_position = rearrange(position, "(t i) -> t i", i=3)
    self._camera_rotation = self._rotations(
      rearrange(rotation, "(t i) -> t i", i=4), "camera/quaternions"
    )

  def _read_instances(self) -> None:
    count = self.num_instances
    for kind, names in _ONCE.items():
      for name in names:
        self._check_length(kind, f"instances/{name}", count)
    visible = self.num_frames * count
    self._check_length("int64", "instances/visibility", visible)
    lists = {
      name: self._floats(f"instances/{name}", count * self.num_frames * size)
      for name, size in _PER_FRAME.items()
      if f"instances/{name}" in self._example
      or name in ("quaternions", "bboxes_3d")
    }
    k = {"k": count, "t": self.num_frames}
    self._corners = rearrange(
      lists["bboxes_3d"], "(k t c i) -> k t c i", c=8, i=3, **k
    )
    quaternions = rearrange(lists["quaternions"], "(k t i) -> k t i", i=4, **k)
    self._rotation = self._rotations(quaternions, "instances/quaternions")

  def _check_length(self, kind: str, name: str, expected: int) -> None:
    """A list that is not used, but must have the length of the others."""
    if name not in self._example:
      return
    if kind == "bytes":
      found = len(self._example.bytes_list(name))
    elif kind == "float":
      found = len(self._example.floats(name))
    else:
      found = len(self._example.integers(name))
    if found != expected:
      raise SceneError(UNEQUAL, f"{name} has {found} values, not {expected}")

  def _rotations(self, quaternions: np.ndarray, name: str) -> np.ndarray:
    if not (np.linalg.norm(quaternions, axis=-1) > 1e-6).all():
      raise SceneError(NOT_FINITE, f"{name} has one of length 0")
    return movi_tracks.rotation_matrices(quaternions)

  def video(self, frames: Sequence[int]) -> UInt8[np.ndarray, "T H W 3"]:
    """Returns frames; Raises `SceneError` if one does not decode."""
    return np.stack([self._decode("video", frame) for frame in frames])

  def segments(self, frames: Sequence[int]) -> UInt8[np.ndarray, "T H W"]:
    """Returns what pixels belong to: 0 background, k for instance k - 1.

    Raises:
      SceneError: If an image does not decode.
    """
    return np.stack([self._decode("segmentations", frame) for frame in frames])

  def distance(self, frames: Sequence[int]) -> Float32[np.ndarray, "T H W"]:
    """Returns meters from the camera's center.

    Raises:
      SceneError: If an image does not decode.
    """
    low, high = self._depth_range
    raw = np.stack([self._decode("depth", frame) for frame in frames])
    step = np.float32((high - low) / 65535)
    return raw.astype(np.float32) * step + np.float32(low)

  def raw(
    self, name: str, frame: int
  ) -> UInt8[np.ndarray, "..."] | UInt16[np.ndarray, "..."]:
    """Returns an image as stored.

    Args:
      name: 'video', 'segmentations', 'depth', 'normal', 'object_coordinates'.
      frame: Which one.

    Raises:
      SceneError: If it does not decode.
    """
    return self._decode(name, frame)

  @property
  def depth_range(self) -> tuple[float, float]:
    """Meters that a depth of 0 and of 65535 stand for."""
    return self._depth_range

  def geometry(self, frames: Sequence[int]) -> movi_tracks.Geometry:
    """Returns what point tracks are made from.

    Args:
      frames: Those of the clip.

    Raises:
      SceneError: If an image does not decode.
    """
    frames = list(frames)

    def surface(index: int) -> tuple[np.ndarray, np.ndarray]:
      box = self._decode("object_coordinates", frames[index]) / 65535
      normal = self._decode("normal", frames[index]) / 65535 * 2 - 1
      return box, normal

    return movi_tracks.Geometry(
      distance=self.distance(frames),
      segments=self.segments(frames),
      surface=surface,
      camera_position=self._camera_position[frames].astype(np.float64),
      camera_rotation=self._camera_rotation[frames],
      focal=self._focal,
      corners=self._corners[:, frames].astype(np.float64),
      rotations=self._rotation[:, frames],
    )

  def _decode(self, name: str, frame: int) -> np.ndarray:
    """Pixels of an image, uint8 or uint16."""
    try:
      image = decode_png(self._images[name][frame], self.width, self.height)
    except _DAMAGED as error:
      raise SceneError(
        UNREADABLE, f"frame {frame} of {name} of {self.name!r}: {error}"
      ) from error
    return image


def decode_png(
  file: bytes | memoryview, width: int, height: int
) -> UInt8[np.ndarray, "..."] | UInt16[np.ndarray, "..."]:
  """Decodes a PNG file without losing bits.

  Args:
    file: Its bytes.
    width: Columns it must have.
    height: Rows it must have.

  Returns:
    Pixels as stored: [H, W] or [H, W, 3], uint8 or uint16.

  Raises:
    ValueError: If the size differs or the pixels are of another kind.
    OSError: If the file is damaged.
  """
  with _open_png(file, width, height) as image:
    (tile,) = image.tile
    kind = tile[3]
    if kind != "RGB;16B":
      pixels = np.asarray(image)
      if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a PNG file of {pixels.dtype} ({kind})")
      return pixels
    high = np.asarray(image)
  # Pillow keeps only the first byte of 16-bit colors. Told that they are
  # stored the other way around, it keeps the second.
  with _open_png(file, width, height) as image:
    image.tile = [(*image.tile[0][:3], "RGB;16L")]
    low = np.asarray(image)
  return high.astype(np.uint16) << 8 | low


def _open_png(file: bytes | memoryview, width: int, height: int) -> Image.Image:
  image = Image.open(io.BytesIO(file), formats=["PNG"])
  if image.size != (width, height):
    raise ValueError(f"{image.size} pixels instead of {(width, height)}")
  if len(image.tile) != 1:
    raise ValueError("no pixels")
  return image
