"""The moving camera: a pinhole of focal length 0.9 image widths.

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

_SMOOTHNESS = 0.85  # autocorrelation of the walk's velocity
_WALK_SIGMA = 0.03  # meters per frame
_TURN_SIGMA = 0.05  # meters per frame of the point looked at
_BLEND_FRAMES = 3  # over which the future's walk replaces the context's
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


def walk(
  context_rng: np.random.Generator,
  future_rng: np.random.Generator,
  start: Float[Array, "2 3"],
  half: Float[Array, "2"],
  height: float,
  num_frames: int,
  num_context: int,
) -> tuple[Float[Array, "T 3"], Float[Array, "T 3 3"]]:
  """Walks the camera smoothly and at random through a clip.

  Both streams draw a whole walk; the future's velocity replaces the context's
  over the three frames that follow the context, so nothing before them shows
  where the camera will go.

  Args:
    context_rng: stream of the context.
    future_rng: stream of the future.
    start: position and target of the first frame.
    half: half the room's extent along x and y, meters.
    height: height of the ceiling, meters.
    num_frames: frames of the clip.
    num_context: frames of the context.

  Returns:
    Positions, and camera-to-world matrices with columns right, down, forward.
  """
  old = _velocities(context_rng, num_frames - 1)
  new = _velocities(future_rng, num_frames - 1)
  frame = np.arange(1, num_frames)[:, None, None]
  weight = np.clip((frame - num_context + 1) / _BLEND_FRAMES, 0, 1)
  path = np.empty((num_frames, 2, 3))
  path[0] = start
  np.cumsum((1 - weight) * old + weight * new, axis=0, out=path[1:])
  path[1:] += start
  inside = half - _MARGIN
  positions = path[:, 0]
  np.clip(positions[:, :2], -inside, inside, out=positions[:, :2])
  np.clip(positions[:, 2], _LOWEST, height - _MARGIN, out=positions[:, 2])
  return positions, look_at(positions, path[:, 1])


def _velocities(rng: np.random.Generator, count: int) -> np.ndarray:
  """Stationary first-order walk velocities of position and target."""
  noise = rng.standard_normal((count, 2, 3))
  noise *= np.array([_WALK_SIGMA, _TURN_SIGMA])[:, None]
  fresh = np.sqrt(1 - _SMOOTHNESS**2)
  for k in range(1, count):
    noise[k] = _SMOOTHNESS * noise[k - 1] + fresh * noise[k]
  return noise


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
