"""Point tracks against exact scenes, a scalar loop, and stored values."""

import made_movi
import numpy as np
import pytest

from forecasting.frames import movi_tracks
from forecasting.frames.movi_tracks import Geometry
from forecasting.frames.preprocess import FULL, Window


def geometry(scene):
  return Geometry(
    distance=scene.distance,
    segments=scene.segments,
    surface=lambda t: (scene.coordinates[t], scene.normals[t]),
    camera_position=scene.camera_position,
    camera_rotation=movi_tracks.rotation_matrices(scene.camera_quaternion),
    focal=made_movi.FOCAL,
    corners=scene.corners,
    rotations=movi_tracks.rotation_matrices(scene.quaternions),
  )


@pytest.fixture(scope="module")
def scene():
  return made_movi.MadeScene(num_frames=8, height=48, width=64)


@pytest.fixture(scope="module")
def queries(scene):
  frames, height, width = scene.shape
  rng = np.random.default_rng(1)
  uniform = rng.integers(0, [frames, height, width], (150, 3))
  on_boxes = np.argwhere(scene.segments)
  return np.concatenate([uniform, rng.permutation(on_boxes)[:150]])


def world_points(scene, queries):
  """Where the queries' points are in every frame, from the scene's motion."""
  frames, *_ = scene.shape
  rays = scene.rays()
  rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
  result = np.empty((len(queries), frames, 3))
  for i, (t, y, x) in enumerate(queries):
    turned = made_movi.matrix(scene.camera_quaternion[t]) @ rays[y, x]
    point = scene.camera_position[t] + scene.distance[t, y, x] * turned
    k = int(scene.segments[t, y, x]) - 1
    for s in range(frames):
      if k < 0:
        result[i, s] = point
        continue
      then = made_movi.matrix(scene.quaternions[k, t])
      now = made_movi.matrix(scene.quaternions[k, s])
      local = then.T @ (point - scene.positions[k, t])
      result[i, s] = now @ local + scene.positions[k, s]
  return result


def test_follows_the_motion_of_the_scene(scene, queries):
  world = world_points(scene, queries)
  found = movi_tracks.track(geometry(scene), queries)
  for s, position in enumerate(scene.camera_position):
    axes = made_movi.matrix(scene.camera_quaternion[s])
    x, y, z = axes.T @ (world[:, s] - position).T
    height, width = scene.shape[1:]
    expected = np.stack(
      [
        0.5 + made_movi.FOCAL * x / -z,
        0.5 - made_movi.FOCAL * height / width * y / -z,
      ],
      -1,
    )
    np.testing.assert_allclose(found.points[:, s], expected, atol=1e-9)
  t, y, x = queries.T
  at_query = found.points[np.arange(len(t)), t] * [
    scene.shape[2],
    *scene.shape[1:2],
  ]
  np.testing.assert_allclose(at_query, np.stack([x, y], -1) + 0.5, atol=1e-6)


def test_occlusion_is_that_of_the_rays(scene, queries):
  world = world_points(scene, queries)
  found = movi_tracks.track(geometry(scene), queries)
  agree, hidden = [], []
  for s, position in enumerate(scene.camera_position):
    rays = (world[:, s] - position) @ made_movi.matrix(
      scene.camera_quaternion[s]
    )
    seen, *_ = scene.look(s, rays)
    blocked = seen < np.linalg.norm(rays, axis=-1) - 1e-6
    outside = (found.points[:, s] < 0) | (found.points[:, s] > 1)
    expected = blocked | outside.any(-1)
    agree.append(found.occluded[:, s] == expected)
    hidden.append(expected & ~outside.any(-1))
  # Pixels at an edge show both sides of it; there the two may differ.
  assert np.mean(hidden) > 0.05
  assert np.mean(agree) > 0.97
  assert np.mean(np.asarray(agree)[np.asarray(hidden)]) > 0.8


def test_agrees_with_a_scalar_loop():
  """On random values, where all branches are taken."""
  rng = np.random.default_rng(0)
  t, h, w, k = 4, 9, 11, 3
  normals = rng.normal(size=(t, h, w, 3))
  normals[:, :, :6] = normals[:, :1, :1]  # smooth on one side
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  coordinates = rng.uniform(size=(t, h, w, 3))
  scene = Geometry(
    distance=rng.uniform(2, 12, (t, h, w)),
    segments=rng.integers(0, k + 1, (t, h, w)).astype(np.uint8),
    surface=lambda frame: (coordinates[frame], normals[frame]),
    camera_position=rng.normal(size=(t, 3)),
    camera_rotation=movi_tracks.rotation_matrices(rng.normal(size=(t, 4))),
    focal=0.9,
    corners=rng.normal(size=(k, t, 8, 3)) * 3,
    rotations=movi_tracks.rotation_matrices(rng.normal(size=(k, t, 4))),
  )
  queries = np.argwhere(np.ones((t, h, w), bool))
  window = Window(0.1, 0.05, 0.9, 0.95)
  found = movi_tracks.track(scene, queries, window)
  reasons = set()
  for i in range(len(queries)):
    points, occluded, why = _slow_track(
      scene, coordinates, normals, queries[i], window
    )
    reasons |= why
    np.testing.assert_allclose(found.points[i], points, rtol=1e-6)
    assert found.occluded[i].tolist() == occluded, i
  assert reasons == {"behind", "deep", "other", "window", "turned", "none"}


def _slow_track(scene, coordinates, normals, query, window):
  """One query, frame by frame, as tasks.md 4.3 words it."""
  frames, h, w = scene.segments.shape
  t, y, x = query
  segment = scene.segments[t, y, x]
  points, occluded, away, why = [], [], [], set()
  focal_y = scene.focal * h / w
  ray = [(x + 0.5) / w - 0.5, 0.5 - (y + 0.5) / h, -1.0]
  ray = np.asarray([ray[0] / scene.focal, ray[1] / focal_y, -1.0])
  ray *= scene.distance[t, y, x] / np.sqrt(ray @ ray)
  fixed = scene.camera_rotation[t] @ ray + scene.camera_position[t]
  corners = np.concatenate([made_movi.CORNERS, np.ones((8, 1))], 1)
  differ = 0
  for dy, dx in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
    other = normals[t, min(max(y + dy, 0), h - 1), min(max(x + dx, 0), w - 1)]
    differ += np.linalg.norm(other - normals[t, y, x]) > 0.05
  for s in range(frames):
    world = fixed
    if segment:
      affine, *_ = np.linalg.lstsq(corners, scene.corners[segment - 1, s])
      world = np.append(coordinates[t, y, x] - 0.5, 1) @ affine
      spin = scene.rotations[segment - 1]
      normal = spin[s] @ np.linalg.inv(spin[t]) @ normals[t, y, x]
      away.append(normal @ (world - scene.camera_position[s]) > 0)
    relative = world - scene.camera_position[s]
    px, py, pz = np.linalg.inv(scene.camera_rotation[s]) @ relative
    u, v = 0.5 + scene.focal * px / -pz, 0.5 - focal_y * py / -pz
    points.append((u, v))
    x0, y0 = int(np.floor(u * w - 0.5)), int(np.floor(v * h - 0.5))
    near = [
      (s, min(max(b, 0), h - 1), min(max(a, 0), w - 1))
      for a in (x0, x0 + 1)
      for b in (y0, y0 + 1)
    ]
    reason = "none"
    if pz >= 0:
      reason = "behind"
    elif not (
      window.left <= u <= window.right and window.top <= v <= window.bottom
    ):
      reason = "window"
    elif 0.99 * np.linalg.norm(relative) > max(scene.distance[p] for p in near):
      reason = "deep"
    elif all(scene.segments[p] != segment for p in near):
      reason = "other"
    occluded.append(reason != "none")
    why.add(reason)
  if segment and differ <= 2 and not away[t]:
    for s in range(frames):
      why |= {"turned"} if away[s] and not occluded[s] else set()
      occluded[s] |= bool(away[s])
  return points, occluded, why


def test_rotations_agree_with_scipy():
  transform = pytest.importorskip("scipy.spatial.transform")
  quaternions = np.random.default_rng(0).normal(size=(5, 2, 4))
  expected = transform.Rotation.from_quat(
    np.roll(quaternions.reshape(-1, 4), -1, axis=-1)
  ).as_matrix()
  found = movi_tracks.rotation_matrices(quaternions)
  np.testing.assert_allclose(found.reshape(-1, 3, 3), expected, atol=1e-12)


def test_queries_come_from_the_grid_and_the_window():
  segments = np.zeros((9, 40, 60), np.uint8)
  window = Window(0.25, 0.5, 0.75, 1.0)
  queries = movi_tracks.draw_queries(
    segments, 0, np.random.default_rng(3), window
  )
  t, y, x = queries.T
  for axis, start in ((y, 10), (x, 30)):
    assert len({(value - start) % 4 for value in axis.tolist()}) == 1
  assert len({frame % 4 for frame in t.tolist() if frame}) == 1
  assert 0 in t
  assert y.min() >= 10 and y.max() < 30 and x.min() >= 30


def test_small_objects_get_their_share():
  segments = np.zeros((1, 64, 64), np.uint8)
  segments[:, :16, :16] = 1  # 16 candidates: a tenth is 1.6
  segments[:, 32:, :] = 2  # 128 candidates
  queries = movi_tracks.draw_queries(
    segments, 3, np.random.default_rng(0), FULL, 20
  )
  counts = np.bincount(segments[tuple(queries.T)], minlength=4)
  # Of 20: none for the absent 3; 2 for 1; of the other 18, half for the
  # background with its 112 candidates, and the rest for 2.
  assert counts.tolist() == [9, 2, 9, 0]


def test_segments_of_no_object_are_not_queried():
  segments = np.full((2, 16, 16), 9, np.uint8)
  assert not len(
    movi_tracks.draw_queries(segments, 2, np.random.default_rng(0))
  )
