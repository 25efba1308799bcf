"""The embedded data: simulated rooms with exact labels and known futures.

Everything of a clip follows from (seed, split, index, future): one random
stream makes the scene and its context, another whatever happens after it. So
`future` draws from the true conditional distribution of futures given one
context, whose frames stay bit-identical.
"""

import dataclasses
from dataclasses import dataclass

import mujoco
import numpy as np

from forecasting.frames.clip import Clip
from forecasting.frames.scenes import labels, physics, shading

SPLITS = {"train": 0, "eval": 1, "futures": 2}
LABELS = ("depth", "points", "boxes")

# Part of every fingerprint: raise it when the same seed gives other clips.
VERSION = 2


@dataclass(frozen=True)
class SceneConfig(physics.Course):
  """What every scene has in common, and how it unfolds.

  Attributes:
    size: pixels per side; 64, 128 and 224 are the presets.
    rays: rays per pixel and side, 1 or 2 (antialiased).
    num_points: point tracks per clip.
    num_boxes: object slots per clip; scenes have up to 5 bodies.
  """

  size: int = 64
  rays: int = 1
  num_points: int = 64
  num_boxes: int = 5

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name.endswith("_probability"):
        if not 0 <= value <= 1:
          raise ValueError(f"{field.name}={value} must be in [0, 1]")
      elif value <= 0:
        raise ValueError(f"{field.name}={value} must be positive")
    if self.rays not in (1, 2):
      raise ValueError(f"rays={self.rays} must be 1 or 2")
    if self.num_context >= self.num_frames:
      raise ValueError(
        f"num_context={self.num_context} leaves no future in "
        f"num_frames={self.num_frames}"
      )


@dataclass(frozen=True)
class Scene:
  """A clip and all that it was made from."""

  clip: Clip
  model: mujoco.MjModel
  motion: physics.Motion
  pictures: shading.Pictures
  points: labels.Points


def generate(
  config: SceneConfig, seed: int, split_id: int, index: int, future: int = 0
) -> Clip:
  """Makes one clip.

  Args:
    config: what every scene has in common.
    seed: of the data set.
    split_id: value of `SPLITS`.
    index: which scene and context.
    future: which of its futures.

  Returns:
    The clip with all labels; the same arguments give the same bytes.
  """
  return generate_scene(config, seed, split_id, index, future).clip


def generate_scene(
  config: SceneConfig, seed: int, split_id: int, index: int, future: int = 0
) -> Scene:
  """Makes one clip and keeps the scene; arguments as in `generate`."""
  context_rng = np.random.default_rng([seed, split_id, index, 0])
  future_rng = np.random.default_rng([seed, split_id, index, 1 + future])
  room = physics.draw_room(context_rng)
  model, velocities = physics.build(context_rng, room)
  textures = shading.draw_textures(context_rng, model.ngeom)
  motion = physics.simulate(
    model,
    room,
    velocities,
    config,
    context_rng,
    future_rng,
  )
  data = mujoco.MjData(model)
  pictures = shading.render(
    model, data, motion, textures, room.light, config.size, config.rays
  )
  shading.pose(model, data, motion, 0)
  points = labels.pick_points(
    context_rng, model, data, motion, pictures.geoms[0], config.num_points
  )
  tracks = labels.track(model, data, motion, points)
  boxes = labels.bound(model, motion, pictures.geoms, config.num_boxes)
  name = f"mujoco_scenes/{seed}/{split_id}/{index:06d}/{future:03d}"
  clip = {
    "video": pictures.video,
    "seconds": np.arange(config.num_frames, dtype=np.float32)
    * np.float32(config.interval),
    "clip_id": np.array(name),
    "start_frame": np.array(0, np.int32),
    "stride": np.array(1, np.int32),
    "depth": pictures.depth,
    "tracks": tracks.tracks,
    "visible": tracks.visible,
    "track_mask": tracks.visible[0].copy(),
    "boxes": boxes.boxes,
    "box_mask": boxes.box_mask,
    "object_mask": boxes.object_mask,
    "object_ids": boxes.object_ids,
  }
  return Scene(clip, model, motion, pictures, points)
