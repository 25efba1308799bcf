"""A small Perception Test download: videos that number their frames, labels."""

import json
import struct

import numpy as np
from made_videos import write_video
from ml_collections import ConfigDict

HEIGHT, WIDTH = 48, 64
STEP = 4  # gray levels from frame to frame
SHADES = 55  # frames that differ by their gray


def picture(k, height=HEIGHT, width=WIDTH):
  """Gray that tells the frame; red at the left, blue at the bottom."""
  frame = np.full((height, width, 3), 10 + STEP * (k % SHADES), np.uint8)
  frame[: height // 2, : width // 2, 0] = 250
  return frame


def write_clip(folder, name, count=70, turned=0, options=None, **kwargs):
  """Writes a video; `turned` degrees clockwise until it is upright."""
  path = folder / "videos" / f"{name}.mp4"
  path.parent.mkdir(parents=True, exist_ok=True)
  pictures = [
    np.ascontiguousarray(np.rot90(picture(k, **kwargs), turned // 90))
    for k in range(count)
  ]
  write_video(path, pictures, rate=30, codec="libx264", options=options)
  if turned:
    _set_rotation(path, turned)
  return path


def _set_rotation(path, degrees):
  """Writes a display matrix as phones do (clockwise) into the track header."""
  data = bytearray(path.read_bytes())
  start = data.index(b"tkhd") + 4
  assert data[start] == 0  # version
  cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
  matrix = [cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 14]
  struct.pack_into(">9i", data, start + 40, *(v << 16 for v in matrix))
  path.write_bytes(data)


def shown(clip):
  """Which frames a clip shows, modulo `SHADES`, by its upper right."""
  size = clip["video"].shape[1]
  corner = clip["video"][:, 1 : size // 4, -size // 4 : -1]
  gray = corner.astype(float).mean((1, 2, 3))
  return np.rint((gray - 10) / STEP).astype(int).tolist()


def point(track_id, frames, xy, layout="split"):
  """A point track; `xy` of one point or one per frame."""
  frames = list(frames)
  xy = np.broadcast_to(np.asarray(xy, float), (len(frames), 2))
  yx = xy[:, ::-1].round(5)
  return {
    "id": track_id,
    "label": "point",
    "parent_objects": [],
    "frame_ids": frames,
    "points": (yx.T if layout == "split" else yx).tolist(),
  }


def boxes(track_id, frames, box):
  """An object track; `box` is [x1, y1, x2, y2]."""
  frames = list(frames)
  return {
    "id": track_id,
    "label": "object",
    "is_occluder": False,
    "bounding_boxes": np.broadcast_to(box, (len(frames), 4)).tolist(),
    "initial_tracking_box": [0] * len(frames),
    "frame_ids": frames,
    "timestamps": [33333 * frame for frame in frames],
    "is_masked": [0] * len(frames),
  }


def video(points=(), objects=(), count=70, height=HEIGHT, width=WIDTH):
  return {
    "metadata": {
      "split": "valid",
      "video_id": "any",
      "frame_rate": 30.0,
      "num_frames": count,
      "resolution": [height, width],
    },
    "object_tracking": list(objects),
    "point_tracking": list(points),
  }


def write_labels(folder, videos, name="point_tracking_valid.json"):
  path = folder / name
  path.write_text(json.dumps(videos))
  return path


def config(folder, **changes):
  return ConfigDict(
    {
      "name": "perception_test",
      "path": str(folder),
      "size": 16,
      "num_frames": 16,
      "window_stride": 1,
      "train_clips": 1000,
      "eval_clips": 1000,
      "num_points": 4,
      "num_boxes": 3,
      "workers": 1,
    }
    | changes
  )
