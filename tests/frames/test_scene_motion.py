"""What moves in simulated scenes: kicked bodies, the drifting camera."""

import numpy as np

from forecasting.frames import mujoco_scenes
from forecasting.frames.scenes import camera, physics

NUM_CONTEXT = mujoco_scenes.SceneConfig().num_context


def test_kicks_go_both_ways_and_only_after_the_context():
  """Sideways speed gained over the kicks' frames has a mode on each side."""
  config = mujoco_scenes.SceneConfig(
    size=8, num_frames=9, turn_probability=0.0, kick_probability=0.6
  )
  gains = []
  for future in range(40):
    scene = mujoco_scenes.generate_scene(config, 0, 2, 1, future)
    bodies = scene.motion.positions[:, physics.NUM_PLANES :]
    right = scene.motion.camera_rotations[NUM_CONTEXT - 1, :, 0]
    speed = np.diff(bodies @ right, axis=0) / config.interval
    change = np.diff(speed, axis=0)[NUM_CONTEXT - 2 : NUM_CONTEXT + 2]
    strongest = np.abs(change).argmax(axis=0)
    gains.append(np.take_along_axis(change, strongest[None], axis=0)[0])
  gains = np.concatenate(gains)
  left, right = np.mean(gains < -1), np.mean(gains > 1)
  assert 0.15 < left < 0.5
  assert 0.15 < right < 0.5


def test_the_camera_turns_either_way_as_often_as_asked():
  """Where the point looked at goes after the context, sideways."""
  config = mujoco_scenes.SceneConfig(size=8, kick_probability=0.0)
  moves, drifts = [], []
  for future in range(60):
    scene = mujoco_scenes.generate_scene(config, 0, 2, 1, future)
    forward = scene.motion.camera_rotations[:, :, 2]
    right = scene.motion.camera_rotations[NUM_CONTEXT - 1, :, 0]
    drifts.append((forward[NUM_CONTEXT - 1] - forward[0]) @ right)
    moves.append((forward[-1] - forward[NUM_CONTEXT - 1]) @ right)
  steady = np.median(moves)  # most futures: the camera goes on as it drifts
  turned = np.asarray(moves) - steady
  assert np.ptp(drifts) == 0
  assert 0.1 < np.mean(turned < -0.1) < 0.35
  assert 0.1 < np.mean(turned > 0.1) < 0.35
  assert np.mean(np.abs(turned) < 1e-6) > 0.4


def test_camera_stays_in_the_room_and_upright():
  for index in range(20):
    context, future = (np.random.default_rng([index, k]) for k in (0, 1))
    room = physics.draw_room(context)
    path = camera.drift(context, room.camera_start, 0.5, 50, 0.04)
    path = camera.turn(future, path, 1.0, 4, 0.04)
    eyes, looks = camera.confine(path, room.half, room.height)
    limit = np.array([*room.half, room.height])
    assert np.all(np.abs(eyes) < limit - 0.2)
    np.testing.assert_allclose(
      np.einsum("tij,tik->tjk", looks, looks),
      np.tile(np.eye(3), (50, 1, 1)),
      atol=1e-12,
    )
    assert np.all(np.linalg.det(looks) > 0.999)
    assert np.all(looks[:, 2, 1] < -0.3)  # 'down' points down
    np.testing.assert_allclose(looks[:, 2, 0], 0, atol=1e-12)
