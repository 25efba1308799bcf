"""ScanNet's .sens files and extracted images against stored values."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from forecasting.frames import preprocess, scannet, scannet_scans
from forecasting.frames.clip import validate_clip
from forecasting.frames.scannet_images import DamagedError
from forecasting.frames.scannet_sens import SensFile

SIZE = 24


def check(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
  """Yields (sample, what was compared, what differs) of a folder."""
  expected = json.loads((folder / "expected.json").read_text())
  paths = {path.stem: path for path in sorted(folder.rglob("*.sens"))}
  for scan, values in expected.items():
    if scan not in paths:
      yield scan, "file", ["no .sens file of this name"]
      continue
    yield _check_sens(scan, paths[scan], values)
  for extracted in sorted((folder / "extracted").glob("*")):
    yield _check_extracted(extracted, paths.get(extracted.name), expected)
  for path in sorted((folder / "malformed").glob("*")):
    yield _check_malformed(path)
  with tempfile.TemporaryDirectory() as root:
    for split in scannet.LISTS:
      if (folder / scannet.LISTS[split]).is_file():
        yield _check_clips(folder, split, Path(root), paths)


def _check_sens(scan, path, values):
  """Every value of `expected.json`, and no other name in it."""
  file = SensFile(path)
  depth = [file.depth(i) for i in range(len(file))]
  poses = [file.pose(i) for i in range(len(file))]
  for i in range(len(file)):
    file.color(i)
  header = file.header
  ours = {
    "num_frames": len(file),
    "color_size": list(header.color_size),
    "depth_size": list(header.depth_size),
    "depth_shift": header.depth_shift,
    "sensor": header.sensor,
    "depth_sum": [int(d.sum(dtype=np.int64)) for d in depth],
    "depth_zeros": [int((d == 0).sum()) for d in depth],
    "depth_0_0": [int(d[0, 0]) for d in depth],
    "color_sha256": [
      hashlib.sha256(file.color_bytes(i)).hexdigest() for i in range(len(file))
    ],
    "timestamp_color": file.index[:-1, 1].tolist(),
    "timestamp_depth": file.index[:-1, 2].tolist(),
    "lost_pose_frames": [
      i for i, pose in enumerate(poses) if not np.isfinite(pose).all()
    ],
    "imu_frames": file.num_imu_records(),
  }
  for i, pose in enumerate(poses):
    for row, name in enumerate(("tx", "ty", "tz")):
      ours[f"pose_{i}_{name}"] = float(pose[row, 3])
  problems = [
    f"{name}: {str(ours.get(name, 'nothing'))[:60]}, stored {str(value)[:60]}"
    for name, value in values.items()
    if name not in ours or not _equal(ours[name], value)
  ]
  return scan, f".sens, {len(file)} frames: {', '.join(values)}", problems


def _check_extracted(folder, sens, expected):
  """The exporter's images are the frames of the .sens file."""
  scan = scannet_scans.ExtractedScan(folder)
  values = expected.get(folder.name, {})
  problems = []
  numbers = sorted(scan.files["color"])
  for i in numbers:
    depth = scan.depth(i)
    stored = values.get("depth_sum", [])[i : i + 1]
    if stored and [int(depth.sum(dtype=np.int64))] != stored:
      problems.append(f"frame {i}: depth sums to {depth.sum()}, not {stored}")
    if sens is not None:
      file = SensFile(sens)
      if not np.array_equal(file.depth(i), depth):
        problems.append(f"frame {i}: depth differs from the .sens file")
      if not np.array_equal(file.color(i), scan.color(i)):
        problems.append(f"frame {i}: color differs from the .sens file")
  if numbers != list(range(len(numbers))):
    problems.append(f"frames {numbers}")
  name = f"extracted/{folder.name}"
  return name, f"{len(numbers)} frames: color, depth, order", problems


def _check_malformed(path):
  """A damaged file is refused with a message, or its clips are skipped."""
  name = f"malformed/{path.name}"
  try:
    file = SensFile(path)
    for i in range(len(file)):
      file.color(i)
      file.depth(i)
  except DamagedError as error:
    named = str(path) in str(error)
    problems = [] if named else [f"the error does not name it: {error}"]
    return name, f"refused: {error.reason}", problems
  # Whole, but nothing to make clips from.
  with tempfile.TemporaryDirectory() as folder:
    scan = "scene0000_00"
    (Path(folder) / f"{scan}.sens").symlink_to(path.resolve())
    (Path(folder) / scannet.LISTS["eval"]).write_text(scan)
    try:
      source = scannet.open_scannet(_data(folder), "eval", Path(folder))
    except ValueError as error:
      return name, f"no clips: {error}", []
    problems = [] if source.skipped else ["it was read without an error"]
    return name, f"skipped: {source.skipped}", problems


def _equal(ours, stored):
  """Floats were stored by some as they are in the file, by some rounded."""
  if isinstance(stored, float) and isinstance(ours, float):
    return np.float32(ours) == np.float32(stored)
  return ours == stored


def _data(path):
  return ConfigDict(
    {
      "path": str(path),
      "size": SIZE,
      "num_frames": 16,
      "window_stride": 1,
      "train_clips": 4,
      "eval_clips": 8,
      "workers": 1,
    }
  )


def _check_clips(folder, split, root, paths):
  """Clips of the reader against frames cropped and scaled here."""
  source = scannet.open_scannet(_data(folder), split, root)
  problems = []
  for i in range(len(source)):
    clip = validate_clip(source[i])
    name, start = str(clip["clip_id"]).split(":")
    file = SensFile(paths[name])
    for k in range(16):
      raw = file.depth(int(start) + k)
      height, width = raw.shape
      color = file.color(int(start) + k)
      rows, columns = color.shape[:2]
      share = np.array([min(1, columns / rows), min(1, rows / columns)])
      at = (np.arange(SIZE) + 0.5) / SIZE
      y = (((1 - share[0]) / 2 + at * share[0]) * height).astype(int)
      x = (((1 - share[1]) / 2 + at * share[1]) * width).astype(int)
      meters = raw[np.ix_(y, x)] / np.float32(file.header.depth_shift)
      if not np.allclose(clip["depth"][k, ..., 0], meters, rtol=1e-6):
        problems.append(f"{clip['clip_id']}: depth of frame {k}")
      square = preprocess.resize_and_crop(color[None], SIZE)
      if not np.array_equal(clip["video"][k], square[0]):
        problems.append(f"{clip['clip_id']}: color of frame {k}")
  what = f"{len(source)} clips, skipped {source.skipped}: color, depth"
  return f"clips/{split}", what, problems
