"""Perception Test: frames, labels, orientation, damage."""

import dataclasses
import json

import made_perception as made
import numpy as np
import pytest
from made_perception import (
  boxes,
  config,
  point,
  video,
  write_clip,
  write_labels,
)

from forecasting.frames import indexed_video, perception_labels, pipeline
from forecasting.frames.clip import validate_clip
from forecasting.frames.perception_labels import LabelError
from forecasting.frames.windows import eval_list_hash

ALL = range(70)


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
  """One encoded video, linked to by the tests."""
  return write_clip(tmp_path_factory.mktemp("videos"), "video_1", 140)


@pytest.fixture
def download(tmp_path, clip_file):
  (tmp_path / "videos").mkdir()
  (tmp_path / "videos" / "video_1.mp4").symlink_to(clip_file)
  return tmp_path


def _open(folder, split="eval", **changes):
  return pipeline.open_source(config(folder, **changes), split, folder / "root")


def test_clips_hold_every_fourth_frame_and_the_points_seen_first(download):
  path = np.stack([np.linspace(0.2, 1.2, 140), np.full(140, 0.3)], -1)
  tracks = [
    point(0, range(140), (0.25, 0.75)),
    point(1, [*range(30), *range(50, 140)], (0.5, 0.5)),
    point(2, range(40, 140), (0.1, 0.9)),
    point(3, range(140), path),
  ]
  write_labels(download, {"video_1": video(tracks, count=140)})
  source = _open(download)
  assert isinstance(source, pipeline.ClipSource)
  assert source.labels == ("points",) and source.skipped == {}
  assert len(source) == 2
  for i, kept in enumerate(([0, 1, 3], [0, 1, 2, 3])):
    clip = validate_clip(source[i])
    frames = 64 * i + 4 * np.arange(16)
    assert made.shown(clip) == (frames % made.SHADES).tolist()
    assert clip["clip_id"] == f"video_1:{64 * i}"
    assert (clip["start_frame"], clip["stride"]) == (64 * i, 4)
    np.testing.assert_allclose(
      clip["seconds"], np.arange(16) * 4 / 30, atol=1e-3
    )
    assert clip["track_mask"].tolist() == [q < len(kept) for q in range(4)]
    for q, number in enumerate(kept):
      entries = dict(
        zip(tracks[number]["frame_ids"], zip(*tracks[number]["points"]))
      )
      for k, frame in enumerate(frames.tolist()):
        y, x = entries.get(frame, (0, 0))
        seen = frame in entries and x <= 1
        assert clip["visible"][k, q] == seen
        np.testing.assert_allclose(clip["tracks"][k, q], (x, y), rtol=1e-6)
    # The padding is empty.
    assert not clip["visible"][:, len(kept) :].any()
  with pytest.raises(IndexError):
    source[2]


def test_both_layouts_of_points_and_the_ambiguous_one(tmp_path):
  two = point(0, [0, 5], [(0.1, 0.2), (0.3, 0.4)])
  assert two["points"] == [[0.2, 0.4], [0.1, 0.3]]  # ys, xs
  split = point(1, range(3), [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6)])
  rows = point(2, range(3), [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6)], "rows")
  assert split["points"] != rows["points"]
  path = write_labels(tmp_path, {"v": video([two, split, rows])})
  tracks = perception_labels.read_labels(path, "points")["v"].tracks
  np.testing.assert_array_equal(tracks[0].values, [[0.1, 0.2], [0.3, 0.4]])
  for track in tracks[1:]:
    np.testing.assert_array_equal(
      track.values, [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]
    )


def test_the_reached_frames_are_those_counted_from_the_start(clip_file):
  index = indexed_video.index_video(clip_file)
  assert len(index) == len(index.stamps) == 140 and not index.error
  whole = indexed_video.read_squares(clip_file, index, range(140), 8, 0)
  for start in (1, 3, 29, 63, 100, 131, 139):
    numbers = list(range(start, 140, 7))
    squares = indexed_video.read_squares(clip_file, index, numbers, 8, 0)
    np.testing.assert_array_equal(squares, whole[numbers])
  # Without times that tell frames apart, they are counted.
  index = dataclasses.replace(index, stamps=index.stamps[:0])
  squares = indexed_video.read_squares(clip_file, index, [77, 99], 8, 0)
  np.testing.assert_array_equal(squares, whole[[77, 99]])
  # With times that are not in the file any more, they are counted too.
  index = dataclasses.replace(index, stamps=np.arange(140) * 7 + 3)
  squares = indexed_video.read_squares(clip_file, index, [77, 99], 8, 0)
  np.testing.assert_array_equal(squares, whole[[77, 99]])


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_frames_come_upright(tmp_path, turned):
  write_clip(tmp_path, "v", 61, turned, height=64, width=48)
  labels = video([point(0, ALL, (0.5, 0.5))], count=61, height=64, width=48)
  write_labels(tmp_path, {"v": labels})
  picture = _open(tmp_path)[0]["video"][0].astype(int)
  red = picture[..., 0] - picture[..., 1] > 100
  assert red[2:6, 2:6].all()
  assert not red[10:].any() and not red[:, 10:].any()


def test_the_annotations_decide_between_turned_and_stored_frames(tmp_path):
  # Stored upright, with metadata that would lay it on its side.
  write_clip(tmp_path, "v", 61, 0)
  made._set_rotation(tmp_path / "videos" / "v.mp4", 90)
  write_labels(tmp_path, {"v": video([point(0, ALL, (0.5, 0.5))], count=61)})
  picture = _open(tmp_path)[0]["video"][0].astype(int)
  red = picture[..., 0] - picture[..., 1] > 100
  assert red[2:6, 2:6].all() and not red[10:].any()
  # Nothing says which way round a portrait annotation would be.
  write_clip(tmp_path, "w", 61, 0)
  labels = video([point(0, ALL, (0.5, 0.5))], count=61, height=64, width=48)
  write_labels(tmp_path, {"w": labels})
  with pytest.raises(ValueError, match="video: wrong orientation': 1"):
    _open(tmp_path)


def test_malformed_entries_are_left_out_and_counted(download):
  odd = point(1, [0, 0, 4, 8, 500, -1], [[0.1, 0.1]] * 6)
  odd["points"][1][1] = 0.9  # the second entry of frame 0
  odd["points"][0][2] = 1.5  # below the frame
  odd["points"][1][3] = float("nan")
  empty = point(2, [1], (0, 0)) | {"points": []}
  lists = point(3, [1, 2], [(0, 0)] * 2) | {"points": [[], []]}
  write_labels(
    download,
    {
      "video_1": video(
        [point(0, [*range(64)], (0, 1)), odd, empty, lists], count=140
      ),
      "video_2": video([point(0, ALL, (0.5, 0.5))]),
      "video_3": video(),
      "video_4": {"metadata": video()["metadata"]},
    },
  )
  source = _open(download)
  clip = validate_clip(source[0])
  assert len(source) == 1
  assert clip["track_mask"].tolist() == [True, True, False, False]
  assert clip["visible"][:, 0].all()  # The corner belongs to the frame.
  np.testing.assert_allclose(clip["tracks"][0, 1], 0.1)
  assert clip["visible"][:, 1].tolist() == [True] + [False] * 15
  assert (
    source.skipped
    == {
      "label: frame beyond the video": 2,
      "label: frame annotated twice": 1,
      "label: not a number": 1,
      "track: empty": 2,
      "video: missing": 1,
      "video: no tracks": 2,
      "clip: nothing visible in its first frame": 0,
    }
    | {"clip: nothing visible in its first frame": 1}
    or len(ALL) != 64
  )


def test_tracks_end_with_the_frames_that_are_there(download):
  write_labels(
    download, {"video_1": video([point(0, range(210), (0.5, 0.5))], count=210)}
  )
  source = _open(download)
  assert len(source) == 2
  assert source.skipped == {
    "video: not as many frames as announced": 1,
    "label: frame beyond the video": 70,
  }
  # Frames that are not announced have no labels.
  write_labels(
    download, {"video_1": video([point(0, range(100), (0.5, 0.5))], count=100)}
  )
  assert len(_open(download)) == 1


def test_a_cut_off_video_is_used_as_far_as_it_goes(tmp_path):
  # The index of the frames first, as in files made for streaming.
  path = write_clip(tmp_path, "v", 140, options={"movflags": "faststart"})
  labels = video([point(0, range(140), (0.5, 0.5))], count=140)
  write_labels(tmp_path, {"v": labels})
  whole = _open(tmp_path)
  data = path.read_bytes()
  assert 0 < data.index(b"moov") < data.index(b"mdat")
  # So far that the first window is still whole.
  path.write_bytes(data[: round(len(data) * 0.8)])
  cut = _open(tmp_path)
  assert len(cut) == 1 and len(whole) == 2
  np.testing.assert_array_equal(cut[0]["video"], whole[0]["video"])
  assert cut.skipped["video: not as many frames as announced"] == 1
  # Without it there is nothing.
  path.write_bytes(data[: data.index(b"moov")])
  with pytest.raises(ValueError, match=r"video: (corrupt|unreadable)': 1"):
    _open(tmp_path)


def test_no_track_is_left_out_for_being_one_too_many(download):
  tracks = [point(q, range(140), (q / 20, 0.5)) for q in range(9)]
  write_labels(download, {"video_1": video(tracks, count=140)})
  clip = validate_clip(_open(download)[0])
  assert clip["track_mask"].tolist() == [True] * 9 + [False] * 3


def test_the_evaluation_list_does_not_depend_on_size_or_padding(download):
  write_labels(
    download, {"video_1": video([point(0, range(140), (0.5, 0.5))], count=140)}
  )
  sources = [_open(download), _open(download, size=8, num_points=5)]
  assert sources[0].eval_list_hash == sources[1].eval_list_hash
  assert sources[0].fingerprint != sources[1].fingerprint
  (path,) = (download / "root" / "eval_lists").iterdir()
  ids = path.read_text().split()
  assert ids == ["video_1:0", "video_1:64"]
  assert eval_list_hash(ids) == sources[0].eval_list_hash
  assert len(_open(download, eval_clips=1)) == 1
  assert len(_open(download, stride=8)) == 1


def test_training_takes_other_annotations_and_more_windows(download):
  labels = {"video_1": video([point(0, range(140), (0.5, 0.5))], count=140)}
  write_labels(download, labels, "point_tracking_train.json")
  with pytest.raises(FileNotFoundError, match=r"point_tracking_valid\.json"):
    _open(download)
  source = _open(download, "train", window_stride=10)
  starts = [int(source[i]["start_frame"]) for i in range(len(source))]
  assert starts == [0, 10, 20, 30, 40, 50, 60, 70]
  assert source.eval_list_hash is None


def test_boxes_are_cut_at_the_frames_annotated(download):
  every = range(0, 140, 4)
  objects = [
    boxes(7, every, [0.1, 0.2, 0.5, 0.6]),
    boxes(8, [*range(0, 40, 4), *range(80, 140, 4)], [-0.2, 0.5, 0.3, 1.4]),
    boxes(9, range(8, 140, 4), [0, 0, 1, 1]),
    boxes(10, every, [0.5, 0.5, 0.5, 0.9]),  # no area
  ]
  write_labels(download, {"video_1": video((), objects, 140)}, "all_valid.json")
  source = _open(download, name="perception_test_boxes")
  assert source.labels == ("boxes",)
  assert len(source) == 2
  clip = validate_clip(source[0])
  assert made.shown(clip) == [k % made.SHADES for k in range(0, 64, 4)]
  assert clip["object_ids"].tolist() == [7, 8, 0]
  assert clip["object_mask"].tolist() == [True, True, False]
  np.testing.assert_allclose(clip["boxes"][0, 0], [0.2, 0.1, 0.6, 0.5])
  np.testing.assert_allclose(clip["boxes"][0, 1], [0.5, 0, 1, 0.3])
  assert clip["box_mask"][:, 1].tolist() == [True] * 10 + [False] * 6
  # Annotations once a second make clips of 16 seconds.
  rare = [boxes(7, range(0, 140, 9), [0.1, 0.2, 0.5, 0.6])]
  write_labels(download, {"video_1": video((), rare, 140)}, "all_valid.json")
  clip = _open(download, name="perception_test_boxes")[0]
  assert made.shown(clip) == [k % made.SHADES for k in range(0, 140, 9)]
  assert clip["stride"] == 9


@pytest.mark.parametrize(
  ("change", "field"),
  [
    (lambda v: v.pop("metadata"), r"v1\.metadata|v1.metadata"),
    (lambda v: v["metadata"].pop("num_frames"), r"\.metadata\.num_frames"),
    (
      lambda v: v["metadata"].update(num_frames=1 << 60),
      r"num_frames is 1152921504606846976, not a whole number",
    ),
    (lambda v: v["metadata"].update(resolution=[0, 5]), "resolution is 0"),
    (lambda v: v["metadata"].update(resolution=7), r"no \[height, width\]"),
    (lambda v: v.update(point_tracking=3), "point_tracking is no list"),
    (
      lambda v: v["point_tracking"][0].update(frame_ids=[0.5] * 3),
      r"point_tracking\[0\]\.frame_ids is no list of whole numbers",
    ),
    (
      lambda v: v["point_tracking"][0].update(points=[[1, 2], [3]]),
      r"point_tracking\[0\]\.points is \[\[1, 2\], \[3\]\], not numbers",
    ),
    (
      lambda v: v["point_tracking"][0].update(points=[["1"] * 3] * 2),
      r"point_tracking\[0\]\.points",
    ),
    (
      lambda v: v["point_tracking"][0].update(frame_ids=[0, 1]),
      r"points has shape \[2, 3\], which does not fit the 2 entries",
    ),
    (lambda v: v["point_tracking"][0].pop("id"), r"\[0\]\.id is null"),
  ],
)
def test_damaged_annotations_are_named_by_field(tmp_path, change, field):
  labels = {"v1": video([point(0, range(3), (0.5, 0.5))])}
  change(labels["v1"])
  path = write_labels(tmp_path, labels)
  with pytest.raises(LabelError, match=field) as error:
    _open(tmp_path)
  assert str(path) in str(error.value)


def test_text_that_is_no_annotation_is_named(tmp_path):
  path = tmp_path / "point_tracking_valid.json"
  for text, message in (
    ('{"a": [1,', "is no JSON.*line 1 column"),
    ("[" * 100_000, "is no JSON"),
    ("[1]", "the file is .1., not an object"),
    ('{"../a": {}}', "odd characters"),
    (json.dumps({"v": video()})[:-1] + "\xff", "is no JSON"),
  ):
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(LabelError, match=message):
      _open(tmp_path)
