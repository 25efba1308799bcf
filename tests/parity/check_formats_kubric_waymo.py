"""Compares Kubric MOVi and Waymo Open samples with the stored values.

Called by check_formats.py; see there.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from forecasting.frames import (
  movi_index,
  movi_tracks,
  tfds_folder,
  waymo_objects,
  waymo_v1,
  waymo_v2,
)
from forecasting.frames.movi_scene import Scene, SceneError
from forecasting.frames.waymo import clip_frames
from forecasting.frames.waymo_segment import Segment

Sample = tuple[str, str, list[str]]

TRACK_TOLERANCE = 1e-3  # pixels, as stated with the stored tracks
BOX_TOLERANCE = 1e-9
CLIP_FRAMES = 16


def check_movi(folder: Path) -> Iterator[Sample]:
  """Compares every record of every data set below a folder.

  Args:
    folder: TFDS folders at any depth; beside them
      `decoded_<split>_<video>.npz` and `tracks_<split>.npz`.

  Yields:
    One sample a record, and one a data set below a folder `malformed`, of
    which every record must be refused.
  """
  expected = {path.stem for path in folder.rglob("decoded_*.npz")}
  for info in sorted(folder.rglob(tfds_folder.INFO)):
    if "malformed" in info.relative_to(folder).parts:
      yield _check_refusal(str(info.parent.relative_to(folder)), info.parent)
      continue
    dataset = tfds_folder.find_folder(info.parent)
    video_format = movi_index.frame_format(dataset)
    for split in dataset.splits:
      for shard in dataset.shards(split):
        spans = tfds_folder.locate(shard)
        for i in range(shard.num_records):
          record = tfds_folder.read(shard, i, spans and spans[i])
          scene = Scene(record, video_format)
          expected.discard(f"decoded_{split}_{scene.name}")
          yield _check_scene(folder, split, scene)
  for name in sorted(expected):
    yield name, "record", ["no record with this name in any shard"]


def _check_refusal(name: str, folder: Path) -> Sample:
  """No record of a folder may be taken for a scene."""
  taken, reasons = [], []
  try:
    dataset = tfds_folder.find_folder(folder)
    video_format = movi_index.frame_format(dataset)
    for split in dataset.splits:
      for shard in dataset.shards(split):
        spans = tfds_folder.locate(shard)
        for i in range(shard.num_records):
          record = tfds_folder.read(shard, i, spans and spans[i])
          try:
            taken.append(Scene(record, video_format).name)
          except SceneError as error:
            reasons.append(str(error))
  except ValueError as error:
    reasons.append(str(error))
  problems = [f"record {scene!r} was not refused" for scene in taken]
  return name, f"refused ({'; '.join(reasons)})", problems


def _check_scene(folder: Path, split: str, scene: Scene) -> Sample:
  frames = range(scene.num_frames)
  name, problems, compared = f"{split}/{scene.name}", [], []
  path = folder / f"decoded_{split}_{scene.name}.npz"
  if path.exists():
    with np.load(path) as stored:
      for key in stored.files:
        problem = _compare_decoded(scene, key, stored[key])
        problems += problem
      compared.append(f"{len(stored.files)} decoded values")
  path = folder / f"tracks_{split}.npz"
  if path.exists():
    with np.load(path) as stored:
      names = {key.rpartition("__")[0] for key in stored.files}
      if scene.name in names:
        queries = stored[f"{scene.name}__query_points"]
        points = stored[f"{scene.name}__target_points"]
        occluded = stored[f"{scene.name}__occluded"]
        pixels = np.floor(queries).astype(np.int64)
        found = movi_tracks.track(scene.geometry(frames), pixels)
        size = [scene.width, scene.height]
        error = float(np.abs(found.points * size - points).max())
        flags = int((found.occluded != occluded).sum())
        compared.append(f"{occluded.size} track points ({error:.1e} px)")
        if not error <= TRACK_TOLERANCE:
          problems.append(f"tracks are off by up to {error:.3g} px")
        if flags:
          problems.append(f"{flags} of {occluded.size} occlusion flags differ")
  if not compared:
    problems.append("no stored values for this record")
  return name, ", ".join(compared), problems


def _compare_decoded(scene: Scene, key: str, stored: np.ndarray) -> list[str]:
  """Compares one array of a `decoded_` file."""
  features = {"seg": "segmentations"}
  name, _, what = key.rpartition("_")
  name = features.get(name, name)
  if key == "depth_range":
    found = np.asarray(scene.depth_range)
  elif what == "mean":
    images = [scene.raw(name, frame) for frame in range(scene.num_frames)]
    # Means of colors are taken together for video, by channel for the rest.
    axes = (0, 1, 2)[: images[0].ndim + 1 - stored.ndim]
    found = np.stack([image.mean(axes) for image in images])
  elif what == "hist":
    found = np.stack(
      [
        np.bincount(scene.raw(name, frame).ravel(), minlength=stored.shape[1])
        for frame in range(scene.num_frames)
      ]
    )
  elif what.startswith("frame"):
    found = scene.raw(name, int(what.removeprefix("frame")))
    found = found.reshape(stored.shape) if found.size == stored.size else found
  else:
    return [f"{key}: unknown kind of value"]
  exact = stored.dtype.kind in "iu"
  if found.shape != stored.shape or not np.allclose(
    found, stored, rtol=0 if exact else 1e-6, atol=0
  ):
    return [f"{key} differs"]
  return []


def check_waymo_v1(folder: Path) -> Iterator[Sample]:
  """Compares the segments of a folder of TFRecord files.

  Args:
    folder: `<split>/*.tfrecord`, optionally below `individual_files`, with
      `expected.json`; in `malformed` files that must be refused.

  Yields:
    One sample a segment or malformed file.
  """
  stored = json.loads((folder / "expected.json").read_text())
  segments = {}
  for path in sorted(folder.rglob("*.tfrecord")):
    if "malformed" not in path.parts:
      for name, file in waymo_v1.list_segments(path.parent).items():
        segments[name] = (file,)
  yield from _check_segments(stored, segments, waymo_v1)
  for path in sorted(folder.glob("malformed/*.tfrecord")):
    name = f"malformed/{path.name}"
    try:
      segment = waymo_v1.index_segment(path.stem, path)
      waymo_v1.read_images(path, segment.places)
    except ValueError as error:
      problems = [] if path.name in str(error) else [f"unclear: {error}"]
      yield name, f"refused ({str(error).split(': ', 1)[-1]})", problems
    else:
      yield name, "refusal", ["read without an error"]


def check_waymo_v2(folder: Path) -> Iterator[Sample]:
  """Compares the segments of a folder of Parquet files.

  Args:
    folder: `<split>/<component>/*.parquet` with `expected.json`; in
      `malformed/<component>` files that must give no boxes, or be refused.

  Yields:
    One sample a segment or malformed file.
  """
  stored = json.loads((folder / "expected.json").read_text())
  segments = {}
  for split in sorted({path.parent for path in folder.glob("*/camera_box")}):
    if split.name != "malformed":
      segments |= waymo_v2.list_segments(split)[0]
  yield from _check_segments(stored, segments, waymo_v2)
  pair = next(iter(segments.values()))
  for path in sorted(folder.glob("malformed/*/*.parquet")):
    name = f"malformed/{path.parent.name}/{path.name}"
    is_boxes = path.parent.name == waymo_v2.BOXES
    images, boxes = (pair[0], path) if is_boxes else (path, pair[1])
    try:
      segment = waymo_v2.index_segment(path.stem, images, boxes)
    except ValueError as error:
      yield name, f"refused ({error})", []
      continue
    problems = [f"{len(segment.boxes)} boxes"] if len(segment.boxes) else []
    yield name, "no boxes", problems


def _check_segments(stored, segments: dict, reader) -> Iterator[Sample]:
  """Compares segments by name; `stored` holds one or a list of several."""
  for expected in stored if isinstance(stored, list) else [stored]:
    name = expected["context"]
    if name not in segments:
      yield name, "segment", [f"not found among {sorted(segments)}"]
      continue
    segment = reader.index_segment(name, *segments[name])
    problems = _compare_segment(segment, expected)
    path = segments[name][0]
    extra = [segment.places] if reader is waymo_v2 else []
    files = reader.read_images(path, segment.places, *extra)
    bad = sum(bytes(file[:2]) != b"\xff\xd8" for file in files)
    problems += [f"{bad} images are no JPEG files"] if bad else []
    compared = (
      f"{len(files)} frames, {len(segment.boxes)} boxes, "
      f"{len(expected['first_clip_after_crop'])} objects of the first clip"
    )
    yield name, compared, problems


def _compare_segment(segment: Segment, expected: dict) -> list[str]:
  """Compares times, boxes in the full frame and the first clip."""
  problems = []
  if segment.timestamps.tolist() != expected["front_timestamps"]:
    problems.append("front timestamps differ")
  kept = len(segment.timestamps[::2])
  if clip_frames(0, kept).tolist() != expected["five_fps_indices"]:
    problems.append("5 fps indices differ")
  found = {name: {} for name in segment.objects}
  for frame, number, box in zip(
    segment.box_frame, segment.box_object, segment.boxes
  ):
    found[segment.objects[number]][str(frame)] = box
  wanted = expected["boxes_normalised_full_frame"]
  if {name: set(boxes) for name, boxes in found.items()} != {
    name: set(boxes) for name, boxes in wanted.items()
  }:
    return [*problems, "objects, or the frames with their boxes, differ"]
  error = max(
    float(np.abs(found[name][frame] - box).max())
    for name, boxes in wanted.items()
    for frame, box in boxes.items()
  )
  if error > BOX_TOLERANCE:
    problems.append(f"boxes are off by up to {error:.2g}")
  return problems + _compare_clip(segment, expected["first_clip_after_crop"])


def _compare_clip(segment: Segment, expected: dict) -> list[str]:
  """Compares the objects of the first clip."""
  lengths = {len(row["boxes"]) for row in expected.values()} or {CLIP_FRAMES}
  (num_frames,) = lengths
  objects = waymo_objects.select_objects(
    segment, clip_frames(0, num_frames), len(segment.objects)
  )
  names = [segment.objects[k] for k in objects.ids]
  problems = []
  for name, row in expected.items():
    if name not in names:
      if row["kept"] or any(row["boxes"]):
        problems.append(f"{name} is not in the clip")
      continue
    k = names.index(name)
    values = {
      "first_area": objects.first_area[k],
      "present_share": objects.presence[k],
      "max_gap": objects.gap[k],
      "kept": objects.kept[k],
    }
    problems += [
      f"{name}: {key} is {value}, expected {row[key]}"
      for key, value in values.items()
      if abs(float(value) - float(row[key])) > BOX_TOLERANCE
    ]
    for t, box in enumerate(row["boxes"]):
      if (box is not None) != bool(objects.box_mask[t, k]):
        problems.append(f"{name}: presence differs in frame {t}")
      elif box is not None and not np.allclose(
        objects.boxes[t, k], box, rtol=0, atol=BOX_TOLERANCE
      ):
        problems.append(f"{name}: box differs in frame {t}")
  return problems
