"""Exact labels of a scene: point tracks and amodal boxes.

Tracks follow points fixed to a geom; one ray from the camera to the exact
point tells whether it is occluded. Boxes bound the whole body, hidden parts
included, at sub-pixel precision and clipped to the image.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32

from forecasting.frames.scenes import camera, physics, shading
from forecasting.shapes import Array

MIN_PIXELS = 8  # a body with fewer visible pixels is absent

_OCCLUSION = 0.005  # meters
_FAR_OUT = (-4.0, 5.0)  # tracks are clipped to this; the image is [0, 1]
_STEEPEST = np.pi / 2 - 1e-3

_CORNERS = np.stack(
  np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0], indexing="ij"), axis=-1
).reshape(8, 3)
_EDGES = np.array(
  [
    (i, j)
    for i in range(8)
    for j in range(i + 1, 8)
    if np.count_nonzero(_CORNERS[i] != _CORNERS[j]) == 1
  ]
)


@dataclass(frozen=True)
class Points:
  """Points fixed to geoms."""

  geoms: Int[Array, "Q"]
  local: Float[Array, "Q 3"]  # in the geom's frame, meters


@dataclass(frozen=True)
class TrackLabels:
  """Point tracks."""

  tracks: Float32[Array, "T Q 2"]
  visible: Bool[Array, "T Q"]


@dataclass(frozen=True)
class BoxLabels:
  """Boxes; objects seen in frame 0 first, then padding."""

  boxes: Float32[Array, "T N 4"]
  box_mask: Bool[Array, "T N"]
  object_mask: Bool[Array, "N"]
  object_ids: Int32[Array, "N"]  # geom index, -1 for padding


def pick_points(
  rng: np.random.Generator,
  model: mujoco.MjModel,
  data: mujoco.MjData,
  motion: physics.Motion,
  geoms: Int[Array, "H W"],
  count: int,
) -> Points:
  """Picks visible points of frame 0: half on bodies, half anywhere.

  Args:
    rng: stream of the context.
    model: the scene.
    data: its state in frame 0.
    motion: poses.
    geoms: geom of every pixel of frame 0.
    count: how many points.

  Returns:
    The points; those meant for bodies come first.
  """
  size = geoms.shape[1]
  flat = geoms.ravel()
  everywhere = np.arange(flat.size)
  on_bodies = np.flatnonzero(flat >= physics.NUM_PLANES)
  if not on_bodies.size:
    on_bodies = everywhere
  pixels = np.concatenate(
    [
      rng.choice(on_bodies, count // 2),
      rng.choice(everywhere, count - count // 2),
    ]
  )
  xy = np.stack([pixels % size, pixels // size], axis=1)
  xy = (xy + rng.uniform(0, 1, (count, 2))) / size
  rays = np.concatenate(
    [(xy - 0.5) / camera.FOCAL, np.ones((count, 1))], axis=1
  )
  rays /= np.linalg.norm(rays, axis=1, keepdims=True)
  eye, look = motion.camera_positions[0], motion.camera_rotations[0]
  rays = rays @ look.T
  hit, distances, _ = shading.trace(model, data, eye, rays)
  offset = eye + distances[:, None] * rays - motion.positions[0, hit]
  return Points(hit, np.einsum("qij,qi->qj", motion.rotations[0, hit], offset))


def track(
  model: mujoco.MjModel,
  data: mujoco.MjData,
  motion: physics.Motion,
  points: Points,
) -> TrackLabels:
  """Follows points through a clip.

  Args:
    model: the scene.
    data: scratch state of that model.
    motion: poses.
    points: what to follow.

  Returns:
    Normalized (x, y), clipped to [-4, 5] far outside the image, and whether
    each point is in view and not occluded.
  """
  shape = (len(motion.qpos), len(points.geoms))
  tracks = np.empty((*shape, 2), np.float32)
  visible = np.empty(shape, bool)
  for frame in range(shape[0]):
    shading.pose(model, data, motion, frame)
    rotations = motion.rotations[frame, points.geoms]
    world = np.einsum("qij,qj->qi", rotations, points.local)
    world += motion.positions[frame, points.geoms]
    eye = motion.camera_positions[frame]
    seen = camera.to_camera(world, eye, motion.camera_rotations[frame])
    xy = camera.project(seen)
    rays = world - eye
    distances = np.linalg.norm(rays, axis=1)
    rays /= distances[:, None]
    _, reach, _ = shading.trace(model, data, eye, rays)
    tracks[frame] = np.clip(xy, *_FAR_OUT)
    visible[frame] = (
      (seen[:, 2] > camera.NEAR)
      & np.all((xy >= 0) & (xy <= 1), axis=1)
      & ((reach < 0) | (reach >= distances - _OCCLUSION))
    )
  return TrackLabels(tracks, visible)


def bound(
  model: mujoco.MjModel,
  motion: physics.Motion,
  geoms: Int[Array, "T H W"],
  num_boxes: int,
) -> BoxLabels:
  """Boxes of all bodies.

  Args:
    model: the scene.
    motion: poses.
    geoms: geom of every pixel.
    num_boxes: length of the padded object axis.

  Returns:
    The boxes; if more than `num_boxes` bodies are in view in frame 0, the
    first ones.
  """
  num_frames = len(geoms)
  counts = np.stack(
    [np.bincount(ids.ravel(), minlength=model.ngeom) for ids in geoms]
  )
  present = counts >= MIN_PIXELS
  bodies = np.arange(physics.NUM_PLANES, model.ngeom)
  kept = bodies[present[0, bodies]][:num_boxes]
  boxes = np.zeros((num_frames, num_boxes, 4), np.float32)
  box_mask = np.zeros((num_frames, num_boxes), bool)
  object_ids = np.full(num_boxes, -1, np.int32)
  object_ids[: len(kept)] = kept
  for slot, geom in enumerate(kept):
    boxes[:, slot] = np.clip(amodal_boxes(model, motion, int(geom)), 0, 1)
    box_mask[:, slot] = present[:, geom]
  return BoxLabels(boxes, box_mask, object_ids >= 0, object_ids)


def amodal_boxes(
  model: mujoco.MjModel, motion: physics.Motion, geom: int
) -> Float[Array, "T 4"]:
  """Bounds a whole body in every frame.

  Args:
    model: the scene.
    motion: poses.
    geom: index of the body's geom.

  Returns:
    Normalized (ymin, xmin, ymax, xmax), not clipped to the image.
  """
  center = motion.positions[:, geom]
  rotation = motion.rotations[:, geom]
  size = model.geom_size[geom]
  kind = model.geom_type[geom]
  if kind == mujoco.mjtGeom.mjGEOM_BOX:
    offsets = np.einsum("tij,nj->tni", rotation, _CORNERS * size)
    corners = _to_cameras(center[:, None] + offsets, motion)
    lowest, highest = _bound_corners(corners)
  else:
    ends = center[:, None]
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
      axis = rotation[:, None, :, 2] * size[1]
      ends = ends + axis * np.array([-1.0, 1.0])[:, None]
    lowest, highest = _bound_spheres(_to_cameras(ends, motion), size[0])
  return np.concatenate([lowest[:, ::-1], highest[:, ::-1]], axis=1)


def _to_cameras(points: np.ndarray, motion: physics.Motion) -> np.ndarray:
  """World points [T n 3] in each frame's camera."""
  offsets = points - motion.camera_positions[:, None]
  return np.einsum("tni,tij->tnj", offsets, motion.camera_rotations)


def _bound_corners(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Lowest and highest (x, y) of boxes, cut off at the near plane."""
  a, b = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
  near = camera.NEAR
  with np.errstate(divide="ignore", invalid="ignore"):
    crossing = np.nan_to_num((near - a[..., 2]) / (b[..., 2] - a[..., 2]))
  crossing = np.clip(crossing, 0, 1)[..., None]
  cut = a + crossing * (b - a)
  ends = np.stack(
    [
      np.where(a[..., 2:] < near, cut, a),
      np.where(b[..., 2:] < near, cut, b),
    ]
  )
  xy = camera.project(ends)
  hidden = ends[..., 2:] < near * (1 - 1e-9)
  lowest = np.where(hidden, np.inf, xy).min(axis=(0, 2))
  highest = np.where(hidden, -np.inf, xy).max(axis=(0, 2))
  behind = np.all(corners[..., 2] < near, axis=1)[:, None]
  return np.where(behind, 0, lowest), np.where(behind, 0, highest)


def _bound_spheres(
  centers: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
  """Lowest and highest (x, y) of the hull of spheres [T n 3].

  The planes through the camera's x or y axis that touch a sphere make angles
  atan2(side, depth) +- asin(radius / distance) with the optical axis.
  """
  side, depth = centers[..., :2], centers[..., 2:]
  distance = np.maximum(np.hypot(side, depth), radius)
  middle, spread = np.arctan2(side, depth), np.arcsin(radius / distance)
  steepest = _STEEPEST
  lowest = np.tan(np.clip(middle - spread, -steepest, steepest)).min(axis=1)
  highest = np.tan(np.clip(middle + spread, -steepest, steepest)).max(axis=1)
  return 0.5 + camera.FOCAL * lowest, 0.5 + camera.FOCAL * highest
