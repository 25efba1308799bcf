"""Sentences about simulated scenes: what is there, how it looks, where it goes.

A caption says how many bodies there are, then of each its two colors, texture,
kind and motion, then what the camera does. Everything of it follows from the
scene and its two random streams, as the frames do, so nothing is stored: the
caption of a clip is made again from the clip's name, without rendering. Of a
mirrored clip, whose name says so, left and right have changed places.
"""

import functools
import re

import mujoco
import numpy as np
from jaxtyping import Float, Int

from forecasting.frames.mirrored import SUFFIX
from forecasting.frames.scenes import camera, physics, shading
from forecasting.shapes import Array

NUMBERS = ("no", "one", "two", "three", "four", "five")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
TEXTURES = ("checkered", "striped", "wavy")
KINDS = {
  mujoco.mjtGeom.mjGEOM_BOX: "box",
  mujoco.mjtGeom.mjGEOM_SPHERE: "ball",
  mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule",
}
MOTIONS = ("left", "right", "up", "down", "closer", "away", "rests")
SIDES = {"left": "right", "right": "left"}  # to what a mirror shows
CAMERA = ("holds", "pans")
_OTHER = ("bodies", "a", "and", "moves", "camera", "to", "the")
VOCABULARY = (
  *NUMBERS,
  *COLORS,
  *TEXTURES,
  *KINDS.values(),
  *MOTIONS,
  *CAMERA,
  *_OTHER,
)
MAX_WORDS = 64
NUM_WORDS = len(VOCABULARY) + 1  # 0 fills up

# Upper ends of the hues of COLORS, in turns; what lies above is red again.
_HUES = (0.04, 0.11, 0.2, 0.45, 0.54, 0.7, 0.82, 0.95)
_REST = 0.08  # meters; a body that moves less rests
_PAN = 0.05  # radians; a camera that turns less holds
_CLIP_ID = re.compile(r"mujoco_scenes/(\d+)/(\d+)/(\d+)/(\d+)")


def caption(
  course: physics.Course, seed: int, split_id: int, index: int, future: int = 0
) -> str:
  """Describes the clip that `mujoco_scenes.generate` makes.

  Args:
    course: how the clip unfolds.
    seed: of the data set.
    split_id: value of `mujoco_scenes.SPLITS`.
    index: which scene and context.
    future: which of its futures.
  """
  context_rng = np.random.default_rng([seed, split_id, index, 0])
  future_rng = np.random.default_rng([seed, split_id, index, 1 + future])
  room = physics.draw_room(context_rng)
  model, velocities = physics.build(context_rng, room)
  textures = shading.draw_textures(context_rng, model.ngeom)
  motion = physics.simulate(
    model, room, velocities, course, context_rng, future_rng
  )
  return describe(model, textures, motion)


@functools.lru_cache(maxsize=8192)
def caption_of(course: physics.Course, clip_id: str) -> str:
  """Describes a clip, mirrored or not, by its name.

  Raises:
    ValueError: the name is not that of a simulated clip.
  """
  match = _CLIP_ID.fullmatch(clip_id.removesuffix(SUFFIX))
  if match is None:
    raise ValueError(
      f"there is no caption of the clip {clip_id!r}; captions need"
      " data.name='mujoco_scenes'"
    )
  text = caption(course, *map(int, match.groups()))
  if not clip_id.endswith(SUFFIX):
    return text
  return re.sub(r"\w+", lambda word: SIDES.get(word[0], word[0]), text)


def words(text: str) -> Int[np.ndarray, "m"]:
  """Returns the numbers of a caption's words, filled up with zeros."""
  number = {word: i for i, word in enumerate(VOCABULARY, 1)}
  found = [number[word] for word in re.findall(r"\w+", text)][:MAX_WORDS]
  return np.array(found + [0] * (MAX_WORDS - len(found)), np.int32)


def mirror_words(numbers: Int[Array, "*B m"]) -> Int[Array, "*B m"]:
  """Returns the numbers of captions of mirrored pictures; traceable."""
  left, right = (VOCABULARY.index(side) + 1 for side in SIDES)
  is_side = (numbers == left) | (numbers == right)
  return numbers + is_side * (left + right - 2 * numbers)


def describe(
  model: mujoco.MjModel, textures: shading.Textures, motion: physics.Motion
) -> str:
  """Puts a scene into words.

  Args:
    model: of the scene; bodies follow the planes.
    textures: of all geoms.
    motion: of the whole clip.
  """
  bodies = range(physics.NUM_PLANES, model.ngeom)
  parts = [
    f"a {_look(textures, geom)} {KINDS[mujoco.mjtGeom(model.geom_type[geom])]}"
    f" {_motion(motion, geom)}"
    for geom in bodies
  ]
  return (
    f"{NUMBERS[len(bodies)]} bodies: {', '.join(parts)}; the camera"
    f" {_camera(motion)}"
  )


def color_name(rgb: Float[Array, "3"]) -> str:
  """Returns the name of a color's hue."""
  red, green, blue = (float(x) for x in rgb)
  high, low = max(red, green, blue), min(red, green, blue)
  spread = max(high - low, 1e-6)
  if high == red:
    hue = (green - blue) / spread % 6
  elif high == green:
    hue = 2 + (blue - red) / spread
  else:
    hue = 4 + (red - green) / spread
  return COLORS[int(np.searchsorted(_HUES, hue / 6, "right")) % len(COLORS)]


def _look(textures: shading.Textures, geom: int) -> str:
  """Two colors and the texture of a geom."""
  middle, contrast = textures.middle[geom], textures.contrast[geom]
  first, second = (color_name(middle + x) for x in (-contrast, contrast))
  colors = first if first == second else f"{first} and {second}"
  weights = textures.weights[geom]
  kind = 0 if weights[0] else (1 if np.count_nonzero(weights) == 1 else 2)
  return f"{colors} {TEXTURES[kind]}"


def _motion(motion: physics.Motion, geom: int) -> str:
  """Where a body goes in the room, as the first camera sees it."""
  ends = camera.to_camera(
    motion.positions[[0, -1], geom],
    motion.camera_positions[0],
    motion.camera_rotations[0],
  )
  moved = ends[1] - ends[0]
  axis = int(np.abs(moved).argmax())
  if abs(moved[axis]) < _REST:
    return "rests"
  # Camera axes are right, down and forward.
  names = (("left", "right"), ("up", "down"), ("closer", "away"))[axis]
  return f"moves {names[int(moved[axis] > 0)]}"


def _camera(motion: physics.Motion) -> str:
  """Whether the camera turns to a side."""
  first, last = motion.camera_rotations[[0, -1]]
  # The last view direction in the first camera's frame.
  right, _, forward = last[:, 2] @ first
  angle = float(np.arctan2(right, forward))
  if abs(angle) < _PAN:
    return "holds"
  return f"pans to the {'right' if angle > 0 else 'left'}"
