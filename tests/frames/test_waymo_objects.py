"""Which objects of a Waymo clip count, against the rules worked by hand."""

import made_waymo
import numpy as np
from made_waymo import MadeSegment, steady, times

from forecasting.frames import waymo, waymo_objects, waymo_segment

FRAMES = 40


def segment(**objects):
  return MadeSegment(times=times(FRAMES), **objects)


def open_clips(path, **changes):
  settings = made_waymo.settings(path / "d", **changes)
  return waymo.open_waymo(settings, "train", path / "root")


def flags(objects):
  """Which of some objects count in the first clip."""
  made = segment(objects=objects)
  raw = [(time, name, *box) for time, name, box in made.boxes()]
  frames = [(time, (i, 0)) for i, time in enumerate(made.times)]
  assembled = waymo_segment.assemble("s", frames, raw, waymo.Counter())
  found = waymo_objects.select_objects(assembled, waymo.clip_frames(0, 16), 3)
  names = [assembled.objects[k] for k in found.ids]
  assert found.kept.tolist() == sorted(found.kept, reverse=True)
  return [name for name, kept in zip(names, found.kept) if kept]


def test_objects_that_count():
  whole = range(FRAMES)
  edge = 0.005 * 1280 * 1280
  size = (edge / 64, 64.0)
  assert flags({"x": steady(whole, size=size)}) == ["x"]
  assert flags({"x": steady(whole, size=(size[0] - 0.01, 64.0))}) == []
  # Half of it is outside the square.
  wide = (size[0] * 2, 64.0)
  assert flags({"x": steady(whole, (320.0, 640.0), wide, 0.0)}) == ["x"]
  assert flags({"x": steady(whole, (319.0, 640.0), wide, 0.0)}) == []
  # 12 of 16 frames are 75%, 11 are 69%.
  assert flags({"x": steady(range(24))}) == ["x"]
  assert flags({"x": steady(range(22))}) == []
  assert flags({"x": steady(range(1, FRAMES))}) == []
  sizes = {
    name: steady(whole, size=(n, 200.0))
    for name, n in zip("abcd", (200.0, 500.0, 300.0, 400.0))
  }
  assert flags(sizes) == ["b", "d", "c"]


def test_gaps_are_counted_from_end_to_end():
  made = segment(objects={"x": steady([0, *range(14, FRAMES)])})
  raw = [(time, name, *box) for time, name, box in made.boxes()]
  frames = [(time, (i, 0)) for i, time in enumerate(made.times)]
  assembled = waymo_segment.assemble("s", frames, raw, waymo.Counter())
  found = waymo_objects.select_objects(assembled, waymo.clip_frames(0, 16), 5)
  assert found.gap.tolist() == [6] and found.presence.tolist() == [10 / 16]
  late = waymo_objects.select_objects(assembled, waymo.clip_frames(2, 16), 5)
  assert late.gap.tolist() == [6] and not late.kept.any()


def test_objects_leave_the_square(tmp_path):
  objects = {
    "x": steady(range(FRAMES), (1500.0, 640.0), (150.0, 200.0), 7.0),
    "y": steady(range(FRAMES)),
  }
  made_waymo.write_v2(tmp_path / "d", segment(objects=objects))
  clip = open_clips(tmp_path)[0]
  column = int(np.flatnonzero(clip["object_ids"][:2] == 0)[0])
  left = 1500 + 7 * np.arange(0, 32, 2) - 75
  np.testing.assert_array_equal(clip["box_mask"][:, column], left < 1600)
  gone = ~clip["box_mask"][:, column]
  assert gone.any() and not clip["boxes"][gone, column].any()


def test_joint_presence_is_an_option(tmp_path):
  objects = {
    "x": steady(range(FRAMES)),
    "y": steady([0, *range(10, FRAMES)], (800.0, 500.0)),
    "z": steady(range(22), (700.0, 800.0)),
  }
  made_waymo.write_v2(tmp_path / "d", segment(objects=objects))
  assert len(open_clips(tmp_path)) == 2
  # y is there in 12 of the first clip's 16 frames, with x; z does not count.
  assert len(open_clips(tmp_path, min_joint_frames=12)) == 2
  assert len(open_clips(tmp_path, min_joint_frames=13)) == 1
