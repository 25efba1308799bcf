"""Perception Test's videos and annotations against stored values."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from forecasting.frames import indexed_video, perception_test
from forecasting.frames.clip import validate_clip

GRAY_LEVELS = 4
TOP_ROWS = 5


def check(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
  """Yields (sample, what was compared, what differs) of a folder."""
  expected = json.loads((folder / "expected.json").read_text())
  files = sorted(folder.glob("point_tracking_*.json"))
  if not files:
    raise FileNotFoundError(f"{folder} has no point_tracking_*.json")
  seen = set()
  for file in files:
    split = {"valid": "eval", "train": "train"}[file.stem.split("_")[-1]]
    labels = json.loads(file.read_text())
    videos = {name: expected[name] for name in expected if name in labels}
    seen |= videos.keys()
    with tempfile.TemporaryDirectory() as root:
      yield from _check_split(folder, split, Path(root), labels, videos)
  for name in expected.keys() - seen:
    yield name, "annotations", ["no file has any of it"]


def _check_split(folder, split, root, labels, videos):
  """Each video's clips, and that videos without tracks give none."""
  # As large as the frames, so that the rows that number them survive.
  sizes = [video["metadata"]["resolution"] for video in labels.values()]
  size = max(map(max, sizes))
  source = perception_test.open_perception_test(
    _data(folder, size), split, root
  )
  clips = {name: [] for name in videos}
  problems = []
  for i in range(len(source)):
    clip = validate_clip(source[i])
    name = str(clip["clip_id"]).split(":")[0]
    if name in clips:
      clips[name].append(clip)
    else:
      problems.append(f"{clip['clip_id']} is not expected")
  yield split, f"{len(source)} clips, skipped {source.skipped}", problems
  for name, values in videos.items():
    if isinstance(values, str):
      found = [f"{len(clips[name])} clips"] if clips[name] else []
      yield name, f"no clip: {values}", found
      continue
    tracks = labels[name]["point_tracking"]
    path = next(iter(folder.rglob(f"{name}.mp4")))
    yield _check_video(path, clips[name], values, tracks)


def _data(folder, size):
  return ConfigDict(
    {
      "name": "perception_test",
      "path": str(folder),
      "size": size,
      "num_frames": 16,
      "stride": 4,
      "window_stride": 64,
      "train_clips": 1 << 30,
      "eval_clips": 1 << 30,
      "num_points": 4,
      "num_boxes": 4,
      "workers": 1,
    }
  )


def _check_video(path, clips, values, tracks):
  """Frames, starts, queries, visibility, places and pixels of a video."""
  problems = []

  def compare(what, ours, stored):
    if ours != stored:
      problems.append(f"{what}: {str(ours)[:60]}, stored {str(stored)[:60]}")

  index = indexed_video.index_video(path)
  compare("num_frames", len(index), values["num_frames"])
  # A clip without any visible point is dropped.
  kept = values["queries_kept"]
  starts = values["clip_starts_stride4"]
  expected = [(s, c) for c, s in enumerate(starts) if kept[c]]
  compare(
    "starts", [int(c["start_frame"]) for c in clips], [s for s, _ in expected]
  )
  for clip, (start, c) in zip(clips, expected):
    mask = clip["track_mask"]
    compare(f"queries of {start}", int(mask.sum()), len(kept[c]))
    if mask.sum() != len(kept[c]):
      continue
    for q, number in enumerate(kept[c]):
      what = f"track {number} from {start}"
      seen = values["visible"][c][number]
      compare(f"visibility of {what}", clip["visible"][:, q].tolist(), seen)
      if c == 0:
        ours, stored = clip["tracks"][:, q], values["xy_first_clip"][number]
        for k, point in enumerate(stored):
          if point is not None and not np.allclose(ours[k], point, atol=1e-5):
            problems.append(f"{what}, frame {k}: {ours[k]}, stored {point}")
    if "top_rows_grey_equals_frame_number" in values:
      problems.extend(_check_gray(clip, start, index.height))
  return (
    path.stem,
    f"{len(clips)} clips, {len(tracks)} tracks: {', '.join(values)}",
    problems,
  )


def _check_gray(clip, start, height):
  """The brightness of the top rows is the number of the frame."""
  # Half of the rows as they are now, clear of what lies below them.
  rows = max(1, TOP_ROWS * clip["video"].shape[1] // (2 * height))
  gray = clip["video"][:, :rows].astype(float).mean((1, 2, 3))
  wanted = start + 4 * np.arange(16)
  # Numbers beyond 255 cannot be shown.
  bad = (np.abs(gray - wanted) > GRAY_LEVELS) & (wanted <= 255)
  return [
    f"frame {wanted[k]} looks like {gray[k]:.1f}" for k in np.flatnonzero(bad)
  ]
