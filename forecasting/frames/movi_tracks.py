"""Point tracks of a Kubric MOVi scene, from depth, segments and poses.

A query is a pixel (t, y, x). Its point on the background stays fixed in the
world; one on an object stays at its coordinates in the object's box, whose
eight corners are given in every frame. World points are seen by a camera that
looks along -z with x to the right and y up:

  x = 1/2 + f X / -Z,   y = 1/2 - f (H/W) Y / -Z                     (1)

A point is occluded where something nearer is at its four neighboring pixels,
where none of them belongs to its object, where its surface faces away, or
outside the window. Source: tasks.md 4.3, after Kubric's public challenge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8

from forecasting.frames.preprocess import FULL, Window

GRID_STRIDE = 4  # pixels and frames from one candidate query to the next
NUM_TRACKS = 256  # drawn of a clip
MAX_SHARE = 0.1  # of an object's candidates
DEPTH_MARGIN = 0.99
NORMAL_STEP = 0.05  # larger ones between neighbors are edges
_BACKGROUND = 0

# Corners of the unit box in the order of bboxes_3d, and the matrix that fits
# an affine map to where they went, by least squares.
_CORNERS = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), -1).reshape(
  8, 3
)
_FIT = np.linalg.pinv(np.concatenate([_CORNERS, np.ones((8, 1))], 1))


@dataclass(frozen=True)
class Geometry:
  """What a scene's frames look like and where everything is.

  Attributes:
    distance: From the camera's center to what a pixel shows, in meters.
    segments: What it belongs to: 0 background, k for object k - 1.
    surface: Of a frame, object coordinates (raw / 65535) and world normals of
      all pixels; asked for query frames only.
    camera_position: In meters.
    camera_rotation: From camera to world axes.
    focal: Focal length in units of the frame's width.
    corners: Of every object's box, in world coordinates.
    rotations: From object to world axes.
  """

  distance: Float[np.ndarray, "T H W"]
  segments: UInt8[np.ndarray, "T H W"]
  surface: Callable[
    [int], tuple[Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W 3"]]
  ]
  camera_position: Float[np.ndarray, "T 3"]
  camera_rotation: Float[np.ndarray, "T 3 3"]
  focal: float
  corners: Float[np.ndarray, "K T 8 3"]
  rotations: Float[np.ndarray, "K T 3 3"]


class PointTracks(NamedTuple):
  """Tracks of Q queries over T frames.

  Attributes:
    points: (x, y), normalized to the frame.
    occluded: Whether the point cannot be seen.
    distance: From the camera, in meters.
  """

  points: Float[np.ndarray, "Q T 2"]
  occluded: Bool[np.ndarray, "Q T"]
  distance: Float[np.ndarray, "Q T"]


def rotation_matrices(
  quaternions: Float[np.ndarray, "*batch 4"],
) -> Float[np.ndarray, "*batch 3 3"]:
  """Returns the rotations of quaternions (w, x, y, z), not all zero."""
  quaternions = quaternions.astype(np.float64)
  norm = np.linalg.norm(quaternions, axis=-1, keepdims=True)
  w, x, y, z = np.moveaxis(quaternions / norm, -1, 0)
  rows = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ]
  return np.stack([np.stack(row, -1) for row in rows], -2)


def draw_queries(
  segments: UInt8[np.ndarray, "T H W"],
  num_objects: int,
  rng: np.random.Generator,
  window: Window = FULL,
  num_tracks: int = NUM_TRACKS,
) -> Int[np.ndarray, "Q 3"]:
  """Draws the pixels whose points are tracked.

  Candidates are a grid in time and space, and the same grid in the first
  frame. Objects with few of them are served first, so that small ones get
  their share.

  Args:
    segments: What every pixel belongs to.
    num_objects: How many objects there are, besides the background.
    rng: Randomness.
    window: Part of the frames that candidates come from.
    num_tracks: How many to draw at most.

  Returns:
    (t, y, x) of at most `num_tracks` pixels.

  Source: tasks.md 4.3; the first frame's grid is our choice.
  """
  _, height, width = segments.shape
  t0, y0, x0 = rng.integers(0, GRID_STRIDE, 3).tolist()
  frames = np.union1d(0, np.arange(t0, len(segments), GRID_STRIDE))
  rows = _grid(y0, window.top * height, window.bottom * height)
  columns = _grid(x0, window.left * width, window.right * width)
  owner = segments[np.ix_(frames, rows, columns)]
  pixels = np.stack(np.meshgrid(frames, rows, columns, indexing="ij"), -1)
  pixels = rearrange(pixels, "t h w i -> (t h w) i")
  owner = rearrange(owner, "t h w -> (t h w)")
  counts = np.bincount(owner, minlength=num_objects + 1)[: num_objects + 1]
  by_object = np.split(
    np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))
  )
  drawn = []
  remaining = num_tracks
  for rank, k in enumerate(np.argsort(counts, kind="stable")):
    share = min(
      round(remaining / (num_objects + 1 - rank)),
      round(MAX_SHARE * float(counts[k])),
    )
    if share:
      drawn.append(rng.choice(by_object[k], share))
    remaining -= share
  return pixels[np.concatenate([*drawn, np.zeros(0, int)])]


def _grid(offset: int, start: float, stop: float) -> np.ndarray:
  return np.arange(round(start) + offset, round(stop), GRID_STRIDE)


def track(
  scene: Geometry, queries: Int[np.ndarray, "Q 3"], window: Window = FULL
) -> PointTracks:
  """Follows points through a scene.

  Args:
    scene: The scene.
    queries: Pixels (t, y, x) that show the points.
    window: Points outside it count as occluded.

  Returns:
    Where the points are in all frames.
  """
  t, y, x = queries.T
  segment = scene.segments[t, y, x]
  on_object = segment != _BACKGROUND
  coordinates = np.zeros((len(queries), 3))
  normals = np.zeros((len(queries), 3))
  smooth = np.zeros(len(queries), bool)
  for frame in np.unique(t[on_object]):
    chosen = np.flatnonzero(on_object & (t == frame))
    box_coordinates, normal_map = scene.surface(int(frame))
    coordinates[chosen] = box_coordinates[y[chosen], x[chosen]] - 0.5
    normals[chosen] = normal_map[y[chosen], x[chosen]]
    smooth[chosen] = _is_smooth(normal_map, y[chosen], x[chosen])
  world = np.empty((len(queries), len(scene.segments), 3))
  world[~on_object] = _unproject(scene, queries[~on_object])[:, None]
  world[on_object] = _on_objects(
    scene, segment[on_object] - 1, coordinates[on_object]
  )
  points, distance, behind = _project(scene, world)
  occluded = behind | _hidden(scene, points, distance, segment)
  x, y = np.moveaxis(points, -1, 0)
  occluded |= (x < window.left) | (x > window.right)
  occluded |= (y < window.top) | (y > window.bottom)
  turned = _turned_away(scene, world, segment, t, normals)
  occluded |= turned & smooth[:, None]
  return PointTracks(points, occluded, distance)


def _unproject(
  scene: Geometry, queries: Int[np.ndarray, "Q 3"]
) -> Float[np.ndarray, "Q 3"]:
  """World points of pixels, by (1) and their distance."""
  _, height, width = scene.segments.shape
  t, y, x = queries.T
  ray = np.stack(
    [
      ((x + 0.5) / width - 0.5) / scene.focal,
      (0.5 - (y + 0.5) / height) / (scene.focal * height / width),
      -np.ones(len(queries)),
    ],
    -1,
  )
  ray *= (scene.distance[t, y, x] / np.linalg.norm(ray, axis=-1))[:, None]
  turned = np.einsum("qij,qj->qi", scene.camera_rotation[t], ray)
  return turned + scene.camera_position[t]


def _on_objects(
  scene: Geometry,
  objects: Int[np.ndarray, "Q"] | UInt8[np.ndarray, "Q"],
  coordinates: Float[np.ndarray, "Q 3"],
) -> Float[np.ndarray, "Q T 3"]:
  """World points of box coordinates."""
  affine = np.einsum("ac,ktcj->ktaj", _FIT, scene.corners)[objects]
  linear = np.einsum("qa,qtaj->qtj", coordinates, affine[:, :, :3])
  return linear + affine[:, :, 3]


def _project(
  scene: Geometry, world: Float[np.ndarray, "Q T 3"]
) -> tuple[
  Float[np.ndarray, "Q T 2"], Float[np.ndarray, "Q T"], Bool[np.ndarray, "Q T"]
]:
  """Frame coordinates by (1), distance, and whether it is behind the camera."""
  _, height, width = scene.segments.shape
  relative = world - scene.camera_position
  distance = np.linalg.norm(relative, axis=-1)
  x, y, z = np.einsum("tji,qtj->iqt", scene.camera_rotation, relative)
  ahead = np.where(z == 0, np.finfo(np.float32).tiny, -z)
  points = np.stack(
    [
      0.5 + scene.focal * x / ahead,
      0.5 - scene.focal * height / width * y / ahead,
    ],
    -1,
  )
  return points, distance, z >= 0


def _hidden(
  scene: Geometry,
  points: Float[np.ndarray, "Q T 2"],
  distance: Float[np.ndarray, "Q T"],
  segment: UInt8[np.ndarray, "Q"],
) -> Bool[np.ndarray, "Q T"]:
  """Whether none of the four pixels around a point shows it."""
  num_frames, height, width = scene.segments.shape
  # Beyond the border all neighbors are the border's; the bound keeps what is
  # far outside representable as an index.
  low = np.floor(np.clip(points, -1, 2) * [width, height] - 0.5).astype(int)
  x, y = np.moveaxis(low, -1, 0)
  columns = np.clip(np.stack([x, x, x + 1, x + 1]), 0, width - 1)
  rows = np.clip(np.stack([y, y + 1, y, y + 1]), 0, height - 1)
  index = (np.arange(num_frames) * height + rows) * width + columns
  farthest = scene.distance.ravel()[index].max(0)
  same = scene.segments.ravel()[index] == segment[:, None]
  return (farthest < distance * DEPTH_MARGIN) | ~same.any(0)


def _is_smooth(
  normals: Float[np.ndarray, "H W 3"],
  y: Int[np.ndarray, "Q"],
  x: Int[np.ndarray, "Q"],
) -> Bool[np.ndarray, "Q"]:
  """Whether at most two diagonal neighbors have another normal."""
  height, width, _ = normals.shape
  steps = np.asarray([[-1, -1], [-1, 1], [1, -1], [1, 1]])
  rows = np.clip(y + steps[:, :1], 0, height - 1)
  columns = np.clip(x + steps[:, 1:], 0, width - 1)
  change = np.linalg.norm(normals[rows, columns] - normals[y, x], axis=-1)
  return (change > NORMAL_STEP).sum(0) <= 2


def _turned_away(
  scene: Geometry,
  world: Float[np.ndarray, "Q T 3"],
  segment: UInt8[np.ndarray, "Q"],
  t: Int[np.ndarray, "Q"],
  normals: Float[np.ndarray, "Q 3"],
) -> Bool[np.ndarray, "Q T"]:
  """Whether the surface of an object's point faces away from the camera."""
  away = np.zeros(world.shape[:2], bool)
  chosen = np.flatnonzero(segment != _BACKGROUND)
  rotations = scene.rotations[segment[chosen] - 1]
  at_query = rotations[np.arange(len(chosen)), t[chosen]]
  fixed = np.einsum("qji,qj->qi", at_query, normals[chosen])
  turned = np.einsum("qtij,qj->qti", rotations, fixed)
  view = world[chosen] - scene.camera_position
  away[chosen] = np.einsum("qti,qti->qt", turned, view) > 0
  # Where the map disagrees with the view already, it is not to be trusted.
  away &= ~away[np.arange(len(t)), t][:, None]
  return away
