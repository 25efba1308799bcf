"""The moving camera: a pinhole of focal length 0.9 image widths.

It drifts steadily, so that its context tells where it goes, unless it turns:
after the context it may pan to the left or to the right, which nothing before
announces.

A pose is a position and a camera-to-world matrix whose columns are right,
down and forward. A camera-frame point (x, y, z) lands on normalized image
coordinates 0.5 + FOCAL * x / z, 0.5 + FOCAL * y / z.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from forecasting.shapes import Array

FOCAL = 0.9  # image widths
NEAR = 0.05  # meters; nothing closer is projected

_TURN_SPEED = (0.75, 1.5)  # meters per second of the point looked at
_BLEND_FRAMES = 3  # over which a turn gathers speed
_MARGIN = 0.3  # meters kept from walls and ceiling
_LOWEST = 0.5  # meters above the floor


def draw_start(
  rng: np.random.Generator, half: Float[Array, "2"], height: float
) -> Float[Array, "2 3"]:
  """Draws where the camera starts and the point that it looks at.

  Args:
    rng: stream of the context.
    half: half the room's extent along x and y, meters.
    height: height of the ceiling, meters.

  Returns:
    Position and target, meters.
  """
  angle = rng.uniform(0, 2 * np.pi)
  distance = rng.uniform(1.7, 2.3)
  inside = half - _MARGIN
  position = np.empty(3)
  position[:2] = np.clip(
    distance * np.array([np.cos(angle), np.sin(angle)]), -inside, inside
  )
  position[2] = min(rng.uniform(0.8, 1.6), height - _MARGIN)
  target = np.array([*rng.uniform(-0.3, 0.3, 2), rng.uniform(0.35, 0.7)])
  return np.stack([position, target])


def drift(
  rng: np.random.Generator,
  start: Float[Array, "2 3"],
  speed: float,
  num_frames: int,
  interval: float,
) -> Float[Array, "T 2 3"]:
  """Moves the camera and the point it looks at steadily through a clip.

  Args:
    rng: stream of the context.
    start: position and target of the first frame, meters.
    speed: standard deviation of each component of both velocities, meters
      per second.
    num_frames: frames of the clip.
    interval: seconds between frames.

  Returns:
    Position and target at every frame, meters.
  """
  velocity = speed * rng.standard_normal((2, 3))
  seconds = interval * np.arange(num_frames)
  return start + seconds[:, None, None] * velocity


def turn(
  rng: np.random.Generator,
  path: Float[Array, "T 2 3"],
  probability: float,
  num_context: int,
  interval: float,
) -> Float[Array, "T 2 3"]:
  """Pans the camera to the left or to the right after the context, or not.

  Args:
    rng: stream of the future.
    path: from `drift`.
    probability: that the camera turns.
    num_context: frames of the context, whose poses stay as they are.
    interval: seconds between frames.

  Returns:
    Position and target at every frame, meters.
  """
  turns = rng.random() < probability
  speed = turns * rng.choice([-1.0, 1.0]) * rng.uniform(*_TURN_SPEED)
  right = look_at(*path[num_context - 1])[:, 0]
  frame = np.arange(len(path))
  pace = np.clip((frame - num_context + 1) / _BLEND_FRAMES, 0, 1)
  sideways = np.cumsum(pace * speed * interval)
  turned = path.copy()
  turned[:, 1] += sideways[:, None] * right
  return turned


def confine(
  path: Float[Array, "T 2 3"], half: Float[Array, "2"], height: float
) -> tuple[Float[Array, "T 3"], Float[Array, "T 3 3"]]:
  """Keeps the camera inside the room and points it at its targets.

  Args:
    path: position and target at every frame, meters.
    half: half the room's extent along x and y, meters.
    height: height of the ceiling, meters.

  Returns:
    Positions, and camera-to-world matrices with columns right, down, forward.
  """
  inside = half - _MARGIN
  positions = path[:, 0].copy()
  np.clip(positions[:, :2], -inside, inside, out=positions[:, :2])
  np.clip(positions[:, 2], _LOWEST, height - _MARGIN, out=positions[:, 2])
  return positions, look_at(positions, path[:, 1])


def look_at(
  positions: Float[Array, "*T 3"], targets: Float[Array, "*T 3"]
) -> Float[Array, "*T 3 3"]:
  """Turns cameras towards their targets, upright.

  Args:
    positions: of the cameras, meters.
    targets: what they look at; never straight above or below.

  Returns:
    Camera-to-world matrices with columns right, down, forward.
  """
  forward = targets - positions
  forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
  right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
  right /= np.linalg.norm(right, axis=-1, keepdims=True)
  return np.stack([right, np.cross(forward, right), forward], axis=-1)


def to_camera(
  points: Float[Array, "*N 3"],
  position: Float[Array, "3"],
  rotation: Float[Array, "3 3"],
) -> Float[Array, "*N 3"]:
  """World points in the camera's frame (right, down, forward), meters."""
  return (points - position) @ rotation


def project(points: Float[Array, "*N 3"]) -> Float[Array, "*N 2"]:
  """Projects camera-frame points to normalized image coordinates (x, y).

  Args:
    points: in the camera's frame; those behind the near plane are projected
      as if they lay on it, so that the result is finite.

  Returns:
    Normalized coordinates, outside [0, 1] where a point is out of view.
  """
  return 0.5 + FOCAL * points[..., :2] / np.maximum(points[..., 2:], NEAR)


@lru_cache(maxsize=8)
def pixel_rays(
  size: int, rays: int
) -> tuple[Float[Array, "M 3"], Float[Array, "M"]]:
  """Unit camera-frame directions through a square image, row by row.

  Args:
    size: pixels per side.
    rays: rays per pixel and side, evenly spaced in the pixel.

  Returns:
    Directions, and the z-depth of a point one meter along each.
  """
  side = size * rays
  grid = ((np.arange(side) + 0.5) / side - 0.5) / FOCAL
  v, u = np.meshgrid(grid, grid, indexing="ij")
  directions = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(side**2, 3)
  forward = 1 / np.linalg.norm(directions, axis=-1)
  return directions * forward[:, None], forward
