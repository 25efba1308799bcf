"""Rays to pictures: MuJoCo finds the hits, numpy colors them.

Textures are functions of a hit's coordinates in its own geom, so they move
rigidly with the body. All three kinds are one formula in three waves
s_k = sin(w_k . x + phase_k):

  mix = clip(a s_0 s_1 s_2 + b_0 s_0 + b_1 s_1 + b_2 s_2, -1, 1)

with a for checkers, one b for stripes and three for the sum of sines; the mix
blends two colors. Shadows are rays from the light to the hits.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from einops import rearrange, reduce
from jaxtyping import Float, Float16, Float64, Int, UInt8

from forecasting.frames.scenes import camera, physics
from forecasting.shapes import Array

_SHADOW_BIAS = 0.002  # meters
_AMBIENT, _DIFFUSE = 0.36, 0.72


@dataclass(frozen=True)
class Textures:
  """One row per geom."""

  waves: Float[Array, "G 3 3"]  # radians per meter, one wave a row
  phases: Float[Array, "G 3"]
  weights: Float[Array, "G 4"]  # a, b_0, b_1, b_2
  middle: Float[Array, "G 3"]  # RGB half-way between the two colors
  contrast: Float[Array, "G 3"]  # from the middle to the second color


@dataclass(frozen=True)
class Hits:
  """Where one frame's rays end, row by row over the image."""

  geoms: Int[Array, "M"]
  points: Float[Array, "M 3"]
  normals: Float[Array, "M 3"]
  depths: Float[Array, "M"]


@dataclass(frozen=True)
class Pictures:
  """All frames of a clip as seen by the camera."""

  video: UInt8[Array, "T H W 3"]
  depth: Float16[Array, "T H W 1"]
  geoms: Int[Array, "T H W"]


def draw_textures(rng: np.random.Generator, num_geoms: int) -> Textures:
  """Draws a texture for each geom.

  Args:
    rng: stream of the context.
    num_geoms: geoms of the scene, planes first.

  Returns:
    The textures: pale and coarse on planes, vivid and fine on bodies.
  """
  plane = (np.arange(num_geoms) < physics.NUM_PLANES)[:, None]
  period = np.where(
    plane,
    rng.uniform(0.7, 1.6, (num_geoms, 1)),
    rng.uniform(0.2, 0.45, (num_geoms, 1)),
  )
  axes, _ = np.linalg.qr(rng.standard_normal((num_geoms, 3, 3)))
  # Waves along a plane, turned by an angle; its third wave is constant.
  angle = rng.uniform(0, 2 * np.pi, num_geoms)[: physics.NUM_PLANES]
  cos, sin = np.cos(angle), np.sin(angle)
  zero = np.zeros_like(cos)
  axes[: physics.NUM_PLANES] = rearrange(
    [cos, sin, zero, -sin, cos, zero, zero, zero, zero],
    "(k c) G -> G k c",
    k=3,
  )
  phases = rng.uniform(0, 2 * np.pi, (num_geoms, 3))
  phases[: physics.NUM_PLANES, 2] = np.pi / 2
  kinds = np.array([[5, 0, 0, 0], [0, 3, 0, 0], [0, 0.6, 0.6, 0.3]])
  middle, contrast = _draw_colors(rng, plane[:, 0])
  return Textures(
    waves=(axes * (2 * np.pi / period)[:, :, None]).astype(np.float32),
    phases=phases.astype(np.float32),
    weights=kinds[rng.integers(3, size=num_geoms)].astype(np.float32),
    middle=middle.astype(np.float32),
    contrast=contrast.astype(np.float32),
  )


def _draw_colors(
  rng: np.random.Generator, plane: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Two colors per geom, as their middle and half their difference."""
  num_geoms = len(plane)
  hue = rng.uniform(size=(num_geoms, 2))
  # A plane's two colors are shades of one hue, a body's are any two.
  hue[plane, 1] = hue[plane, 0] + 0.06
  low = np.where(plane, 0.1, 0.55)[:, None]
  high = np.where(plane, 0.45, 0.95)[:, None]
  saturation = rng.uniform(low, high, (num_geoms, 2))
  value = rng.uniform(0.55, 0.95, (num_geoms, 2)) * np.array([1.0, 0.55])
  sector = np.arange(3) / 3
  wheel = np.abs((hue[..., None] + sector) % 1 * 6 - 3) - 1
  pure = np.clip(wheel, 0, 1)
  colors = value[..., None] * (1 - saturation[..., None] * (1 - pure))
  return colors.mean(axis=1), (colors[:, 1] - colors[:, 0]) / 2


def trace(
  model: mujoco.MjModel,
  data: mujoco.MjData,
  origin: Float64[Array, "3"],
  directions: Float64[Array, "M 3"],
  group: int | None = None,
  with_normals: bool = False,
) -> tuple[Int[Array, "M"], Float64[Array, "M"], Float64[Array, "M 3"] | None]:
  """Casts rays from one point.

  Args:
    model: the scene.
    data: its state, kinematics done.
    origin: where all rays start.
    directions: unit vectors, world frame.
    group: the only geom group that rays can hit; None for all.
    with_normals: whether to return surface normals.

  Returns:
    Geom hit (-1 for none), distance in meters (-1 for none) and, if asked
    for, the surface normal.
  """
  count = len(directions)
  geoms = np.empty(count, np.int32)
  distances = np.empty(count)
  normals = np.empty((count, 3)) if with_normals else None
  groups = None
  if group is not None:
    groups = np.zeros(6, np.uint8)
    groups[group] = 1
  mujoco.mj_multiRay(
    model,
    data,
    origin,
    directions.ravel(),
    groups,
    True,
    -1,
    geoms,
    distances,
    None if normals is None else normals.ravel(),
    count,
    mujoco.mjMAXVAL,
  )
  return geoms, distances, normals


def look(
  model: mujoco.MjModel,
  data: mujoco.MjData,
  position: Float64[Array, "3"],
  rotation: Float64[Array, "3 3"],
  size: int,
  rays: int,
) -> Hits:
  """Casts the camera's rays of one frame.

  Args:
    model: the scene.
    data: its state, kinematics done.
    position: of the camera.
    rotation: camera to world.
    size: pixels per side.
    rays: rays per pixel and side.

  Returns:
    The hits; the room is closed, so every ray has one.
  """
  local, forward = camera.pixel_rays(size, rays)
  directions = local @ rotation.T
  geoms, distances, normals = trace(
    model, data, position, directions, with_normals=True
  )
  directions *= distances[:, None]
  directions += position
  return Hits(geoms, directions, normals, distances * forward)


def shade(
  model: mujoco.MjModel,
  data: mujoco.MjData,
  hits: Hits,
  textures: Textures,
  positions: Float[Array, "G 3"],
  rotations: Float[Array, "G 3 3"],
  light: Float64[Array, "3"],
) -> Float[Array, "M 3"]:
  """Colors the hits of one frame.

  Args:
    model: the scene.
    data: its state, kinematics done.
    hits: what the camera sees.
    textures: of all geoms.
    positions: of all geoms in this frame.
    rotations: of all geoms in this frame.
    light: where the point light is.

  Returns:
    RGB, 0 to 1.
  """
  # w . R^T (p - x) + phase = (R w) . p + (phase - (R w) . x)
  waves = np.einsum("gij,gkj->gki", rotations, textures.waves)
  phases = textures.phases - np.einsum("gki,gi->gk", waves, positions)
  pick = hits.geoms
  points = hits.points.astype(np.float32)
  angles = np.einsum("mki,mi->mk", waves.astype(np.float32)[pick], points)
  angles += phases.astype(np.float32)[pick]
  sines = np.sin(angles, out=angles)
  weights = textures.weights[pick]
  mix = np.einsum("mk,mk->m", weights[:, 1:], sines)
  mix += weights[:, 0] * sines[:, 0] * sines[:, 1] * sines[:, 2]
  np.clip(mix, -1, 1, out=mix)
  color = textures.contrast[pick]
  color *= mix[:, None]
  color += textures.middle[pick]
  color *= _brightness(model, data, hits, light)[:, None]
  return np.minimum(color, 1, out=color)


def _brightness(
  model: mujoco.MjModel,
  data: mujoco.MjData,
  hits: Hits,
  light: np.ndarray,
) -> np.ndarray:
  """Ambient light plus what reaches each hit from the lamp."""
  rays = hits.points - light
  distances = np.sqrt(np.einsum("mi,mi->m", rays, rays))
  rays /= distances[:, None]
  lambert = -np.einsum("mi,mi->m", rays, hits.normals)
  np.maximum(lambert, 0, out=lambert)
  # The room is convex: only bodies can stand in the light.
  _, reach, _ = trace(model, data, light, rays, physics.BODY_GROUP)
  lambert[(reach >= 0) & (reach < distances - _SHADOW_BIAS)] = 0
  # The ambient part depends a little on where a surface faces, so that
  # shapes stay visible in the shadow.
  ambient = _AMBIENT + 0.08 * hits.normals[:, 2] + 0.04 * hits.normals[:, 0]
  return (ambient + _DIFFUSE * lambert).astype(np.float32)


def render(
  model: mujoco.MjModel,
  data: mujoco.MjData,
  motion: physics.Motion,
  textures: Textures,
  light: Float64[Array, "3"],
  size: int,
  rays: int,
) -> Pictures:
  """Renders a clip.

  Args:
    model: the scene.
    data: scratch state of that model.
    motion: poses at every frame.
    textures: of all geoms.
    light: where the point light is.
    size: pixels per side.
    rays: rays per pixel and side; colors are averaged, depth and geoms come
      from the first.

  Returns:
    Color, depth along the optical axis in meters, and geom of every pixel.
  """
  num_frames = len(motion.qpos)
  video = np.empty((num_frames, size, size, 3), np.uint8)
  depth = np.empty((num_frames, size, size, 1), np.float16)
  geoms = np.empty((num_frames, size, size), np.int32)
  for frame in range(num_frames):
    pose(model, data, motion, frame)
    hits = look(
      model,
      data,
      motion.camera_positions[frame],
      motion.camera_rotations[frame],
      size,
      rays,
    )
    color = shade(
      model,
      data,
      hits,
      textures,
      motion.positions[frame],
      motion.rotations[frame],
      light,
    )
    color = reduce(
      color, "(H r W s) c -> H W c", "mean", W=size, r=rays, s=rays
    )
    video[frame] = color * 255 + 0.5
    grid = {"W": size, "r": rays, "s": rays}
    first = "(H r W s) -> H r W s"
    depth[frame, ..., 0] = rearrange(hits.depths, first, **grid)[:, 0, :, 0]
    geoms[frame] = rearrange(hits.geoms, first, **grid)[:, 0, :, 0]
  return Pictures(video, depth, geoms)


def pose(
  model: mujoco.MjModel,
  data: mujoco.MjData,
  motion: physics.Motion,
  frame: int,
) -> None:
  """Puts the bodies where they are in a frame, ready for rays."""
  data.qpos[:] = motion.qpos[frame]
  mujoco.mj_kinematics(model, data)
