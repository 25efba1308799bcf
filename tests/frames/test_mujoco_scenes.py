"""Simulated scenes: labels against geometry, and the two random streams."""

import mujoco
import numpy as np
import pytest

from forecasting.frames import clip as clips
from forecasting.frames import mujoco_scenes
from forecasting.frames.scenes import labels, physics, shading

SIZE = 64
CONFIG = mujoco_scenes.SceneConfig(size=SIZE)
TINY = mujoco_scenes.SceneConfig(size=16)
NUM_CONTEXT = CONFIG.num_context


@pytest.fixture(scope="module")
def scenes():
  return [mujoco_scenes.generate_scene(CONFIG, 1, 0, i) for i in range(6)]


def track_depths(scene):
  """Distance along the optical axis of every tracked point, [T, Q]."""
  motion, points = scene.motion, scene.points
  world = motion.positions[:, points.geoms] + np.einsum(
    "tqij,qj->tqi", motion.rotations[:, points.geoms], points.local
  )
  forward = motion.camera_rotations[:, :, 2]
  offset = world - motion.camera_positions[:, None]
  return np.einsum("tqi,ti->tq", offset, forward)


def neighbors(image, xy):
  """The 3x3 pixels around normalized points: [..., 9]."""
  size = image.shape[0]
  column, row = np.moveaxis((xy * size).astype(int), -1, 0)
  step = np.array([-1, 0, 1])
  rows = np.clip(row[..., None, None] + step[:, None], 0, size - 1)
  columns = np.clip(column[..., None, None] + step, 0, size - 1)
  return image[rows, columns].reshape(*row.shape, 9)


def test_clips_are_valid(scenes):
  for scene in scenes:
    clip = clips.validate_clip(scene.clip)
    assert clips.clip_labels(clip) == mujoco_scenes.LABELS
    assert clip["tracks"].shape == (16, 64, 2)
    assert clip["boxes"].shape == (16, 5, 4)
    assert clip["object_mask"].any()
    assert clip["depth"].min() > 0
    # Every ray of a closed room hits something.
    assert scene.pictures.geoms.min() >= 0
    np.testing.assert_allclose(np.diff(clip["seconds"]), 0.04, rtol=1e-5)


def test_static_points_stay_put_in_the_world(scenes):
  """Intersects the ray through each track with the plane of its wall."""
  checked = 0
  for scene in scenes:
    static = np.flatnonzero(scene.points.geoms < physics.NUM_PLANES)
    geoms = scene.points.geoms[static]
    origin = scene.motion.positions[0, geoms]
    normal = scene.motion.rotations[0, geoms, :, 2]
    hits = []
    for frame in range(16):
      xy = scene.clip["tracks"][frame, static].astype(np.float64)
      local = np.concatenate([(xy - 0.5) / 0.9, np.ones((len(xy), 1))], 1)
      ray = local @ scene.motion.camera_rotations[frame].T
      eye = scene.motion.camera_positions[frame]
      length = np.sum((origin - eye) * normal, 1) / np.sum(ray * normal, 1)
      hits.append(eye + length[:, None] * ray)
    seen = scene.clip["visible"][:, static]
    error = np.abs(np.stack(hits) - hits[0]).max(axis=-1)
    assert error[seen].max() < 2e-3
    checked += seen.sum()
  assert checked > 500


def test_visible_points_lie_on_the_depth_map(scenes):
  """A visible point is no farther than its surroundings, on its own geom."""
  for scene in scenes:
    depths = track_depths(scene)
    own, inside = [], []
    for frame in range(16):
      seen = scene.clip["visible"][frame]
      xy = scene.clip["tracks"][frame, seen]
      near = neighbors(scene.pictures.geoms[frame], xy)
      same = near == scene.points.geoms[seen][:, None]
      own.append(same.any(axis=1))
      depth = neighbors(scene.clip["depth"][frame, ..., 0], xy)
      depth = depth.astype(np.float64)
      low, high = depth.min(axis=1), depth.max(axis=1)
      true = depths[frame, seen]
      # Surfaces curve between the pixels' centers; silhouettes are left out.
      slack = 0.005 * true + (high - low) / 2
      near_middle = np.abs(true - (low + high) / 2) < slack
      inside.append(near_middle[same.all(axis=1)])
    assert np.mean(np.concatenate(own)) > 0.98
    assert len(np.concatenate(inside)) > 200
    assert np.mean(np.concatenate(inside)) > 0.98


def test_depth_of_walls_is_where_the_center_ray_meets_them(scenes):
  center = (np.arange(SIZE) + 0.5) / SIZE - 0.5
  v, u = np.meshgrid(center / 0.9, center / 0.9, indexing="ij")
  local = np.stack([u, v, np.ones_like(u)], axis=-1)
  for scene in scenes:
    for frame in (0, 15):
      geoms = scene.pictures.geoms[frame]
      wall = geoms < physics.NUM_PLANES
      origin = scene.motion.positions[frame, geoms[wall]]
      normal = scene.motion.rotations[frame, geoms[wall], :, 2]
      rays = local[wall] @ scene.motion.camera_rotations[frame].T
      offset = origin - scene.motion.camera_positions[frame]
      expected = np.sum(offset * normal, 1) / np.sum(rays * normal, 1)
      found = scene.clip["depth"][frame, ..., 0][wall]
      # float16 keeps 11 bits.
      np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_points_in_view_are_hidden_only_behind_something(scenes):
  hidden, explained = 0, 0
  for scene in scenes:
    depths = track_depths(scene)
    for frame in range(16):
      xy = scene.clip["tracks"][frame]
      view = np.all((xy > 0.02) & (xy < 0.98), axis=1) & (depths[frame] > 0.1)
      view &= ~scene.clip["visible"][frame]
      image = scene.clip["depth"][frame, ..., 0]
      nearest = neighbors(image, xy[view]).min(axis=1)
      hidden += view.sum()
      explained += np.sum(nearest < depths[frame, view])
  assert hidden > 100
  assert explained > 0.98 * hidden


def chroma(scene, frame, xy):
  column, row = (xy * SIZE).astype(int).T
  color = scene.clip["video"][frame, row, column].astype(np.float64)
  return color / color.sum(axis=1, keepdims=True)


def test_textures_stick_to_what_moves(scenes):
  """The hue under a tracked point stays, whatever its lighting does."""
  tracked, elsewhere = [], []
  for scene in scenes:
    clip = scene.clip
    on_bodies = scene.points.geoms >= physics.NUM_PLANES
    for frame in range(4, 16, 4):
      kept = on_bodies & clip["visible"][frame]
      if not kept.any():
        continue
      before = chroma(scene, 0, clip["tracks"][0, kept])
      after = chroma(scene, frame, clip["tracks"][frame, kept])
      still = chroma(scene, frame, clip["tracks"][0, kept])
      tracked.append(np.abs(after - before).mean(axis=1))
      elsewhere.append(np.abs(still - before).mean(axis=1))
  tracked, elsewhere = np.concatenate(tracked), np.concatenate(elsewhere)
  assert np.median(tracked) < 0.015
  assert np.median(tracked) < 0.3 * np.median(elsewhere)


def test_bodies_cast_shadows_on_the_floor():
  """A ball under the lamp: the floor is dark where a line to it is cut."""
  model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody>"
    "<geom type='plane' size='0 0 .1' group='1'/>"
    "<body pos='0 0 1'><geom type='sphere' size='.3'/></body>"
    "</worldbody></mujoco>"
  )
  data = mujoco.MjData(model)
  mujoco.mj_kinematics(model, data)
  textures = shading.Textures(
    waves=np.zeros((2, 3, 3), np.float32),
    phases=np.zeros((2, 3), np.float32),
    weights=np.zeros((2, 4), np.float32),
    middle=np.full((2, 3), 0.5, np.float32),
    contrast=np.zeros((2, 3), np.float32),
  )
  # The cone that touches the ball reaches the floor at this radius.
  radius = 2 * 0.3 / np.sqrt(1 - 0.3**2)
  x = np.array([0.0, 0.5 * radius, 0.98 * radius, 1.02 * radius, 2 * radius])
  zero = np.zeros_like(x)
  hits = shading.Hits(
    geoms=np.zeros(len(x), np.int32),
    points=np.stack([x, zero, zero], axis=1),
    normals=np.stack([zero, zero, zero + 1], axis=1),
    depths=zero,
  )
  color = shading.shade(
    model,
    data,
    hits,
    textures,
    data.geom_xpos,
    data.geom_xmat.reshape(-1, 3, 3),
    np.array([0.0, 0.0, 2.0]),
  )[:, 0]
  np.testing.assert_allclose(color[1:3], color[0])
  assert np.all(color[3:] > 1.5 * color[0])
  assert color[3] > color[4]  # steeper light is brighter


def test_queries_are_visible_and_half_on_bodies(scenes):
  for scene in scenes:
    assert scene.clip["visible"][0].all()
    assert scene.clip["track_mask"].all()
    on_bodies = scene.points.geoms >= physics.NUM_PLANES
    assert on_bodies[:32].mean() > 0.8
    assert on_bodies[32:].mean() < 0.8


def test_boxes_bound_the_masks(scenes):
  tight = []
  for scene in scenes:
    clip = scene.clip
    boxes = clip["boxes"] * SIZE
    for slot in np.flatnonzero(clip["object_mask"]):
      geom = clip["object_ids"][slot]
      for frame in range(16):
        mask = scene.pictures.geoms[frame] == geom
        assert clip["box_mask"][frame, slot] == (mask.sum() >= 8)
        if mask.sum() < 8:
          continue
        rows, columns = np.nonzero(mask)
        low = np.array([rows.min(), columns.min()])
        high = np.array([rows.max() + 1, columns.max() + 1])
        box = boxes[frame, slot]
        # A pixel counts when its center is hit: half a pixel of slack.
        assert np.all(low >= box[:2] - 0.51), (geom, frame)
        assert np.all(high <= box[2:] + 0.51), (geom, frame)
        others = np.delete(np.arange(5), slot)
        inside = np.all((box > 0) & (box < SIZE))
        if inside and not overlaps(box, boxes[frame, others]):
          tight.append(np.concatenate([low, high]) - box)
  tight = np.stack(tight)
  assert len(tight) > 50
  # Half a pixel, more only where a thin corner slips between two centers.
  assert np.mean(np.abs(tight) < 1) > 0.95
  assert np.abs(tight).max() < 3
  # Rounding to pixels does not move the middle.
  assert np.abs((tight[:, :2] + tight[:, 2:]).mean(axis=0) / 2).max() < 0.1


def overlaps(box, others):
  return np.any(
    np.all(box[:2] < others[:, 2:] + 1, axis=1)
    & np.all(others[:, :2] < box[2:] + 1, axis=1)
  )


def test_boxes_of_round_bodies_match_their_surface():
  """Tangent angles against the projection of many surface points."""
  rng = np.random.default_rng(0)
  latitude = np.linspace(-np.pi / 2, np.pi / 2, 301)[:, None]
  longitude = np.linspace(0, 2 * np.pi, 501)
  sphere = np.stack(
    np.broadcast_arrays(
      np.cos(latitude) * np.cos(longitude),
      np.cos(latitude) * np.sin(longitude),
      np.sin(latitude),
    ),
    axis=-1,
  ).reshape(-1, 3)
  rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
  motion = physics.Motion(
    qpos=np.zeros((1, 7)),
    positions=np.array([[[0.3, -0.4, 1.5]]]),
    rotations=rotation[None, None],
    camera_positions=np.zeros((1, 3)),
    camera_rotations=np.eye(3)[None],
  )
  for kind, size, ends in (
    ("sphere", "0.3", [0.0]),
    ("capsule", "0.2 0.25", [-0.25, 0.25]),
  ):
    model = mujoco.MjModel.from_xml_string(
      f"<mujoco><worldbody><geom type='{kind}' size='{size}'/></worldbody>"
      "</mujoco>"
    )
    surface = np.concatenate(
      [model.geom_size[0, 0] * sphere + [0, 0, end] for end in ends]
    )
    world = surface @ rotation.T + motion.positions[0, 0]
    xy = 0.5 + 0.9 * world[:, :2] / world[:, 2:]
    expected = np.concatenate([xy.min(0)[::-1], xy.max(0)[::-1]])
    found = labels.amodal_boxes(model, motion, 0)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_boxes_of_bodies_that_pass_the_camera_are_finite():
  """A cuboid around the camera fills the picture; one behind is empty."""
  model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><geom type='box' size='.2 .2 .2'/></worldbody></mujoco>"
  )
  motion = physics.Motion(
    qpos=np.zeros((2, 7)),
    positions=np.array([[[0.0, 0.0, 0.1]], [[0.0, 0.0, -1.0]]]),
    rotations=np.tile(np.eye(3), (2, 1, 1, 1)),
    camera_positions=np.zeros((2, 3)),
    camera_rotations=np.tile(np.eye(3), (2, 1, 1)),
  )
  boxes = labels.amodal_boxes(model, motion, 0)
  assert np.all(np.isfinite(boxes))
  np.testing.assert_array_equal(np.clip(boxes[0], 0, 1), [0, 0, 1, 1])
  np.testing.assert_array_equal(boxes[1], 0)


def test_same_arguments_give_the_same_bytes():
  def record(*arguments):
    return clips.encode_clip(mujoco_scenes.generate(TINY, *arguments))

  base = record(0, 1, 2, 3)
  assert record(0, 1, 2, 3) == base
  for other in ((1, 1, 2, 3), (0, 2, 2, 3), (0, 1, 3, 3), (0, 1, 2, 4)):
    assert record(*other) != base


def test_futures_share_their_context_and_differ_after_it():
  futures = [mujoco_scenes.generate(TINY, 0, 2, 5, f) for f in range(4)]
  assert len({str(clip["clip_id"]) for clip in futures}) == 4
  first = clips.split_context(futures[0], NUM_CONTEXT)
  for clip in futures[1:]:
    context, future = clips.split_context(clip, NUM_CONTEXT)
    for key in context.keys() - {"clip_id"}:
      np.testing.assert_array_equal(context[key], first[0][key])
    for key in ("video", "depth", "tracks", "boxes"):
      assert np.any(future[key] != first[1][key]), key


@pytest.mark.parametrize("size", [64, 128, 224])
@pytest.mark.parametrize("rays", [1, 2])
def test_labels_do_not_depend_on_the_raster(size, rays):
  if size == 224 and rays == 2:
    pytest.skip("a second of shading for nothing new")
  config = mujoco_scenes.SceneConfig(size=size, rays=rays, num_frames=6)
  clip = clips.validate_clip(mujoco_scenes.generate(config, 0, 0, 3))
  assert clip["video"].shape == (6, size, size, 3)
  base = mujoco_scenes.generate(
    mujoco_scenes.SceneConfig(size=64, num_frames=6), 0, 0, 3
  )
  np.testing.assert_allclose(clip["boxes"], base["boxes"], atol=1e-6)
  # Averaged over a coarse grid the pictures are the same.
  coarse = [
    c["video"].reshape(6, 8, s // 8, 8, s // 8, 3).mean((2, 4))
    for c, s in ((clip, size), (base, 64))
  ]
  assert np.abs(coarse[0] - coarse[1]).mean() < 3


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rays": 3}, "rays=3 must be 1 or 2"),
    ({"size": 0}, "size=0 must be positive"),
    ({"num_context": 16}, "leaves no future"),
    ({"turn_probability": 1.5}, r"turn_probability=1.5 must be in \[0, 1\]"),
  ],
)
def test_impossible_settings_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    mujoco_scenes.SceneConfig(**changes)
