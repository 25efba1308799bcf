"""Rooms with bodies that fall, roll and collide, simulated by MuJoCo.

A scene is a closed room (six planes) and 2 to 5 free bodies that start in view
of the camera. After the context some bodies are kicked to the left or to the
right and the camera may turn, which nothing in the context announces.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from einops import rearrange
from jaxtyping import Float

from forecasting.frames.scenes import camera
from forecasting.shapes import Array

NUM_PLANES = 6
PLANE_GROUP, BODY_GROUP = 1, 0  # geom groups, so that rays can choose

_TIMESTEP = 0.004  # seconds
_SPRINGY = [-3000.0, -8.0]  # contact stiffness and damping
_MAX_BODIES = 5
_IN_VIEW = 0.36  # a body starts this close to the image center, widths
_CANDIDATES = 64  # starting places tried per body

_NEVER = -(10**6)  # before any frame of the context
_KICK_FRAMES = 4  # a kick comes with one of the first frames of the future
_KICK_SIDEWAYS = (1.5, 3.0)  # meters per second
_KICK_UPWARD = (0.5, 2.5)  # meters per second

_GEOM = mujoco.mjtGeom
_KINDS = (_GEOM.mjGEOM_BOX, _GEOM.mjGEOM_SPHERE, _GEOM.mjGEOM_CAPSULE)


@dataclass(frozen=True)
class Room:
  """The room, its light, and the camera's first pose; meters."""

  half: Float[Array, "2"]
  height: float
  light: Float[Array, "3"]
  camera_start: Float[Array, "2 3"]


@dataclass(frozen=True)
class Course:
  """How a clip unfolds.

  Attributes:
    num_frames: frames of a clip.
    num_context: frames before the future's random stream acts.
    interval: seconds between frames, a multiple of 4 ms (our choice: 0.6 s
      a clip, in which most kicked bodies stay in view).
    camera_speed: standard deviation of each component of the camera's steady
      velocity and of that of the point it looks at, meters per second.
    turn_probability: that the camera pans to a side after the context.
    kick_probability: that a body is kicked to a side after the context. (Ours,
      as is the probability of a turn: events few enough that ten samples can
      meet what happens, so that a sampler can beat the conditional mean.)
  """

  num_frames: int = 16
  num_context: int = 4
  interval: float = 0.04
  camera_speed: float = 0.2
  turn_probability: float = 0.4
  kick_probability: float = 0.4


@dataclass(frozen=True)
class Motion:
  """Poses of everything at every frame."""

  qpos: Float[Array, "T P"]
  positions: Float[Array, "T G 3"]
  rotations: Float[Array, "T G 3 3"]
  camera_positions: Float[Array, "T 3"]
  camera_rotations: Float[Array, "T 3 3"]


def draw_room(rng: np.random.Generator) -> Room:
  """Draws a room.

  Args:
    rng: stream of the context.

  Returns:
    The room.
  """
  half = rng.uniform(2.0, 2.8, 2)
  height = float(rng.uniform(2.4, 3.0))
  light = np.array([*(rng.uniform(-0.6, 0.6, 2) * half), height - 0.25])
  return Room(half, height, light, camera.draw_start(rng, half, height))


def build(
  rng: np.random.Generator, room: Room
) -> tuple[mujoco.MjModel, Float[Array, "V"]]:
  """Builds the room and its bodies.

  Args:
    rng: stream of the context.
    room: the room.

  Returns:
    The compiled model (geoms 0 to 5 are the planes, one geom per body after
    them) and the bodies' initial velocities, six numbers each.
  """
  spec = mujoco.MjSpec()
  spec.option.timestep = _TIMESTEP
  _add_planes(spec, room)
  velocities = []
  taken = np.empty((0, 4))
  for _ in range(rng.integers(2, _MAX_BODIES + 1)):
    kind, size, radius = _draw_shape(rng)
    position = _place(rng, room, radius, taken)
    if position is None:
      continue
    taken = np.concatenate([taken, [[*position, radius]]])
    quaternion = rng.standard_normal(4)
    body = spec.worldbody.add_body(
      pos=position, quat=quaternion / np.linalg.norm(quaternion)
    )
    body.add_freejoint()
    body.add_geom(type=kind, size=size, solref=_SPRINGY, group=BODY_GROUP)
    linear = rng.standard_normal(3) * [0.5, 0.5, 0.4]
    velocities.append([*linear, *(2.0 * rng.standard_normal(3))])
  return spec.compile(), np.concatenate(velocities)


def _add_planes(spec: mujoco.MjSpec, room: Room) -> None:
  """Floor, ceiling and four walls, all facing inwards."""
  hx, hy = room.half
  for position, normal in (
    ([0, 0, 0], [0, 0, 1]),
    ([0, 0, room.height], [0, 0, -1]),
    ([-hx, 0, 0], [1, 0, 0]),
    ([hx, 0, 0], [-1, 0, 0]),
    ([0, -hy, 0], [0, 1, 0]),
    ([0, hy, 0], [0, -1, 0]),
  ):
    quaternion = np.empty(4)
    mujoco.mju_quatZ2Vec(quaternion, np.array(normal, np.float64))
    spec.worldbody.add_geom(
      type=_GEOM.mjGEOM_PLANE,
      pos=position,
      quat=quaternion,
      size=[0, 0, 0.1],
      solref=_SPRINGY,
      group=PLANE_GROUP,
    )


def _draw_shape(
  rng: np.random.Generator,
) -> tuple[mujoco.mjtGeom, np.ndarray, float]:
  """Kind, MuJoCo size and bounding radius of a body."""
  kind = _KINDS[rng.integers(len(_KINDS))]
  if kind == _GEOM.mjGEOM_BOX:
    size = rng.uniform(0.11, 0.24, 3)
    return kind, size, float(np.linalg.norm(size))
  if kind == _GEOM.mjGEOM_SPHERE:
    radius = rng.uniform(0.14, 0.28)
    return kind, np.array([radius, 0.0, 0.0]), radius
  radius, half_length = rng.uniform(0.09, 0.16), rng.uniform(0.12, 0.26)
  return kind, np.array([radius, half_length, 0.0]), radius + half_length


def _place(
  rng: np.random.Generator, room: Room, radius: float, taken: np.ndarray
) -> np.ndarray | None:
  """A free place in view of the first camera, or None if the room is full."""
  start, target = room.camera_start
  rotation = camera.look_at(start, target)
  depth = rng.uniform(1.4, 2.8, _CANDIDATES)
  spread = rng.uniform(-_IN_VIEW, _IN_VIEW, (_CANDIDATES, 2)) / camera.FOCAL
  local = np.concatenate([spread, np.ones((_CANDIDATES, 1))], 1)
  places = start + (local * depth[:, None]) @ rotation.T
  # Those below the floor rest on it: a third of all bodies roll, not fall.
  places[:, 2] = np.maximum(places[:, 2], radius + 0.01)
  limit = np.array([*room.half, room.height]) - radius
  free = np.all(np.abs(places) < limit, axis=1)
  seen = camera.to_camera(places, start, rotation)
  offset = np.abs(camera.project(seen) - 0.5).max(axis=1)
  free &= (offset < _IN_VIEW + 0.02) & (seen[:, 2] > 1.2)
  gaps = np.linalg.norm(places[:, None] - taken[:, :3], axis=2)
  free &= np.all(gaps > taken[:, 3] + radius + 0.02, axis=1)
  if not free.any():
    return None
  return places[np.argmax(free)]


def simulate(
  model: mujoco.MjModel,
  room: Room,
  velocities: Float[Array, "V"],
  course: Course,
  context_rng: np.random.Generator,
  future_rng: np.random.Generator,
) -> Motion:
  """Simulates a clip.

  Args:
    model: from `build`.
    room: the room.
    velocities: initial velocities of the bodies.
    course: how the clip unfolds.
    context_rng: stream of the context.
    future_rng: stream of the future; it acts after the last context frame.

  Returns:
    Poses of bodies and camera at every frame.
  """
  num_frames, num_context = course.num_frames, course.num_context
  interval = course.interval
  path = camera.drift(
    context_rng, room.camera_start, course.camera_speed, num_frames, interval
  )
  path = camera.turn(
    future_rng, path, course.turn_probability, num_context, interval
  )
  eyes, looks = camera.confine(path, room.half, room.height)
  num_bodies = model.nv // 6
  kicks = _draw_kicks(future_rng, course.kick_probability, num_bodies)
  steps = round(interval / _TIMESTEP)
  data = mujoco.MjData(model)
  data.qvel[:] = velocities
  qpos = np.empty((num_frames, model.nq))
  positions = np.empty((num_frames, model.ngeom, 3))
  rotations = np.empty((num_frames, model.ngeom, 3, 3))
  for frame in range(num_frames):
    if frame:
      for body in np.flatnonzero(kicks.frame == frame - num_context):
        kick = kicks.sideways[body] * looks[frame - 1, :, 0]
        kick[2] += kicks.upward[body]
        data.qvel[6 * body : 6 * body + 3] += kick
      mujoco.mj_step(model, data, nstep=steps)
    # A step leaves the poses of its own beginning behind.
    mujoco.mj_kinematics(model, data)
    qpos[frame] = data.qpos
    positions[frame] = data.geom_xpos
    rotations[frame] = rearrange(data.geom_xmat, "G (i j) -> G i j", i=3)
  return Motion(qpos, positions, rotations, eyes, looks)


@dataclass(frozen=True)
class _Kicks:
  """Per body: frame of the future or _NEVER; speeds, meters per second."""

  frame: np.ndarray
  sideways: np.ndarray
  upward: np.ndarray


def _draw_kicks(
  rng: np.random.Generator, probability: float, num_bodies: int
) -> _Kicks:
  """Who is kicked, when, and to which side."""
  hit = rng.random(num_bodies) < probability
  frame = rng.integers(0, _KICK_FRAMES, num_bodies)
  side = rng.choice([-1.0, 1.0], num_bodies)
  sideways = side * rng.uniform(*_KICK_SIDEWAYS, num_bodies)
  upward = rng.uniform(*_KICK_UPWARD, num_bodies)
  return _Kicks(np.where(hit, frame, _NEVER), sideways, upward)
