"""Small ScanNet recordings, packed field by field."""

import io
import struct
import zlib

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

COLOR, DEPTH = (48, 36), (32, 24)  # width, height


def color(k):
  """A gradient whose blue channel tells the frame."""
  width, height = COLOR
  x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
  return np.stack([x, y, np.full_like(x, 10 * k % 256)], -1).astype(np.uint8)


def depth(k):
  """Raw units that tell frame and place."""
  width, height = DEPTH
  return (
    (1000 + 100 * (k % 80) + np.arange(width * height) % 97)
    .astype(np.uint16)
    .reshape(height, width)
  )


def jpeg(picture, form="JPEG"):
  stream = io.BytesIO()
  Image.fromarray(picture).save(stream, form, quality=95)
  return stream.getvalue()


def frame(k, color_blob=None, depth_blob=None, stamp=None):
  """One frame's bytes, in pieces so that tests know the borders."""
  a = jpeg(color(k)) if color_blob is None else color_blob
  b = zlib.compress(depth(k).tobytes()) if depth_blob is None else depth_blob
  stamp = 33_333 * k if stamp is None else stamp
  pose = np.eye(4, dtype="<f4")
  return [
    pose.tobytes(),
    struct.pack("<Q", stamp),
    struct.pack("<Q", stamp),
    struct.pack("<Q", len(a)),
    struct.pack("<Q", len(b)),
    a,
    b,
  ]


def header(num_frames, **changes):
  """The header's fields by name, in their order."""
  fields = {
    "version": struct.pack("<I", 4),
    "length": struct.pack("<Q", 5),
    "sensor": b"probe",
    "matrices": np.tile(np.eye(4, dtype="<f4"), (4, 1, 1)).tobytes(),
    "color_codec": struct.pack("<i", 2),
    "depth_codec": struct.pack("<i", 1),
    "color_size": struct.pack("<2I", *COLOR),
    "depth_size": struct.pack("<2I", *DEPTH),
    "shift": struct.pack("<f", 1000.0),
    "count": struct.pack("<Q", num_frames),
  }
  assert changes.keys() <= fields.keys()
  return list({**fields, **changes}.values())


def imu(count):
  return [struct.pack("<Q", count), *[bytes(range(128))] * count]


def pieces(num_frames=18, frames=None, num_imu=None, **changes):
  """A whole file, field by field; `frames` replaces some by number."""
  frames = frames or {}
  parts = header(num_frames, **changes)
  for k in range(num_frames):
    parts += frames.get(k) or frame(k)
  return parts + ([] if num_imu is None else imu(num_imu))


def write_scan(folder, name="scene0000_00", content=None, **kwargs):
  path = folder / "scans" / name / f"{name}.sens"
  path.parent.mkdir(parents=True, exist_ok=True)
  content = b"".join(pieces(**kwargs)) if content is None else content
  path.write_bytes(content)
  return path


def write_lists(folder, *names):
  for split in ("train", "val"):
    text = "\n".join(names) + "\n"
    (folder / f"scannetv2_{split}.txt").write_text(text)


def config(folder, **changes):
  return ConfigDict(
    {
      "name": "scannet",
      "path": str(folder),
      "size": 12,
      "num_frames": 16,
      "window_stride": 1,
      "train_clips": 1000,
      "eval_clips": 1000,
      "workers": 1,
    }
    | changes
  )
