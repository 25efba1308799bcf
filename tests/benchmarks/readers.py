"""Clips per second and core of every reader, beside a plain loop.

python tests/benchmarks/readers.py [--size 224] [--clips 20]

Makes one recording a data set, as large as the real ones (ScanNet 1296 x 968,
Perception Test 1920 x 1080, MOVi 256 x 256, Waymo 1920 x 1280), and reads its
clips in turn. The plain loop decodes and resizes the same frames with the same
decoder and does nothing else: no labels, no index, no checks. Time is that of
the processor, so a core is a core whatever else runs.

For MOVi a clip's time is given beside that of its point tracks alone, and of
tensorflow-datasets' random access to a whole video in ArrayRecord files. Its
`Video` feature cannot be built without TensorFlow, so the folder describes
sequences of images instead, whose records are the same. 16-bit images need
OpenCV (`pip install opencv-python-headless`); without it only the 8-bit ones
are read.
"""

import argparse
import dataclasses
import importlib.util
import io
import json
import logging
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "frames"))

import made_movi
import made_perception
import made_records
import made_scannet
import made_waymo

from forecasting.frames import (
  movi_scene,
  movi_tracks,
  pipeline,
  tfds_folder,
  tfrecord,
)

FRAMES = 16

# The writers' own takes a microsecond a byte.
made_records.masked = tfrecord.masked_crc


def texture(height: int, width: int, seed: int) -> np.ndarray:
  """An image about as hard to compress as a photo."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (height // 32, width // 32, 3), np.uint8)
  image = Image.fromarray(coarse).resize((width, height))
  noise = rng.normal(0, 6, (height, width, 3))
  return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def square(image: Image.Image, size: int) -> np.ndarray:
  """The plain loop's resizing."""
  return np.asarray(image.convert("RGB").resize((size, size), 2))


def scannet(folder: Path, size: int):
  """A .sens file of 80 frames."""
  made_scannet.COLOR, made_scannet.DEPTH = (1296, 968), (640, 480)
  colors = [made_scannet.jpeg(texture(968, 1296, k)) for k in range(4)]
  rough = np.random.default_rng(0).integers(0, 20, (480, 640), np.uint16)
  depths = [
    zlib.compress((made_scannet.depth(k) + rough).astype(np.uint16).tobytes())
    for k in range(4)
  ]
  frames = {
    k: made_scannet.frame(k, colors[k % 4], depths[k % 4]) for k in range(80)
  }
  made_scannet.write_scan(folder, frames=frames, num_frames=80)
  made_scannet.write_lists(folder, "scene0000_00")

  def plain():
    for k in range(FRAMES):
      square(Image.open(io.BytesIO(colors[k % 4])), size)
      raw = np.frombuffer(zlib.decompress(depths[k % 4]), np.uint16)
      np.asarray(Image.fromarray(raw.reshape(480, 640)).resize((size, size), 0))

  return made_scannet.config(folder, window_stride=16), plain


def perception_test(folder: Path, size: int):
  """A video of 5 s, 64 points in it."""
  path = folder / "videos" / "video_1.mp4"
  path.parent.mkdir(parents=True)
  pictures = [texture(1080, 1920, k % 8) for k in range(150)]
  made_perception.write_video(path, pictures, rate=30, codec="libx264")
  points = [
    made_perception.point(k, range(150), (k / 64, 0.5)) for k in range(64)
  ]
  labels = {"video_1": made_perception.video(points, (), 150, 1080, 1920)}
  made_perception.write_labels(folder, labels, "point_tracking_train.json")

  def plain():
    with av.open(str(path)) as container:
      for k, frame in enumerate(container.decode(video=0)):
        if k % 4 == 0:
          square(frame.to_image(), size)
        if k == 60:
          return

  config = made_perception.config(folder, num_points=64, window_stride=1)
  return config, plain


def movi(folder: Path, size: int, file_format: str):
  """Four videos of 24 frames with 256 tracks."""
  made = made_movi.MadeScene(0, 24, 256, 256)
  features = made.features()
  for name in ("depth", "segmentations"):
    features[name] = [_shrunk(file) for file in features[name]]
  frames = [Image.fromarray(texture(256, 256, k)) for k in range(24)]
  features["video"] = [_saved(frame) for frame in frames]
  features["forward_flow"] = np.arange(24 * 2000) % 60000
  records = []
  for name in "abcd":
    features["metadata/video_name"] = [name.encode()]
    records.append(made_records.example(features))
  made_movi.write_folder(folder, {"train": records}, made.shape, file_format)

  def plain():
    for k in range(FRAMES):
      square(Image.open(io.BytesIO(features["video"][k])), size)
      for name in ("depth", "segmentations"):
        np.asarray(Image.open(io.BytesIO(features[name][k])))
      if k % 4 == 0:  # of those queries are drawn from
        for name in ("object_coordinates", "normal"):
          movi_scene.decode_png(features[name][k], 256, 256)

  return made_movi.settings(folder, num_points=64), plain


def _saved(image: Image.Image) -> bytes:
  stream = io.BytesIO()
  image.save(stream, "PNG")
  return stream.getvalue()


def _shrunk(file: bytes) -> bytes:
  """A PNG file with filters and compression as they usually are."""
  return _saved(Image.open(io.BytesIO(file)))


def movi_tracks_of(folder: Path) -> Callable[[int], object]:
  """Makes the tracks of a clip, all its images decoded before."""
  shard = tfds_folder.find_folder(folder).shards("train")[0]
  spans = tfds_folder.locate(shard)
  record = tfds_folder.read(shard, 0, spans and spans[0])
  scene = movi_scene.Scene(record)
  geometry = scene.geometry(range(FRAMES))
  surfaces = [geometry.surface(k) for k in range(FRAMES)]
  geometry = dataclasses.replace(geometry, surface=surfaces.__getitem__)

  def make(seed: int) -> object:
    rng = np.random.default_rng(seed)
    queries = movi_tracks.draw_queries(
      geometry.segments, scene.num_instances, rng
    )
    return movi_tracks.track(geometry, queries)

  return make


def movi_by_tfds(folder: Path) -> Callable[[int], object]:
  """Reads whole videos with tensorflow-datasets; describes them to it first."""
  features = tfds.features
  wide = importlib.util.find_spec("cv2") is not None

  def images(channels: int, dtype: type) -> tfds.features.Sequence:
    image = features.Image(
      shape=(256, 256, channels), dtype=dtype, encoding_format="png"
    )
    return features.Sequence(image, length=24)

  def floats(*shape: int) -> tfds.features.Tensor:
    return features.Tensor(shape=shape, dtype=np.float32)

  described = {
    "video": images(3, np.uint8),
    "segmentations": images(1, np.uint8),
    "camera": {
      "positions": floats(24, 3),
      "quaternions": floats(24, 4),
      "focal_length": floats(),
      "sensor_width": floats(),
    },
    "instances": features.Sequence(
      {"quaternions": floats(24, 4), "bboxes_3d": floats(24, 8, 3)}
    ),
    "metadata": {"video_name": features.Text(), "depth_range": floats(2)},
  }
  if wide:
    described["depth"] = images(1, np.uint16)
    for name in ("object_coordinates", "normal"):
      described[name] = images(3, np.uint16)
  text = json.dumps(features.FeaturesDict(described).to_json())
  (folder / "features.json").write_text(text)
  path = folder / "dataset_info.json"
  info = json.loads(path.read_text()) | {"version": "1.0.0"}
  path.write_text(json.dumps(info))
  elements = tfds.builder_from_directory(folder).as_data_source(split="train")
  assert np.asarray(elements[0]["video"]).shape == (24, 256, 256, 3)
  return lambda k: elements[k % len(elements)]


def beside_tfds(name: str, folder: Path, reader: float, count: int) -> None:
  """Prints where a MOVi clip's time goes, and what tfds needs for its video."""
  making = seconds(movi_tracks_of(folder), count)
  print(f"  {1e3 * reader:.1f} ms a clip, {1e3 * making:.1f} of it its tracks")
  if "ArrayRecord" in name:
    whole = seconds(movi_by_tfds(folder), count)
    kinds = "all" if importlib.util.find_spec("cv2") else "8-bit"
    print(
      f"  tensorflow-datasets, {kinds} images of 24 frames, no tracks, no "
      f"resizing: {1e3 * whole:.1f} ms, {whole / reader:.2f} of the reader's"
    )


def waymo(folder: Path, size: int, write: Callable):
  """A segment of 20 s with ten objects."""
  images = {}
  for k in range(198):
    if k < 4:
      stream = io.BytesIO()
      Image.fromarray(texture(1280, 1920, k)).save(stream, "JPEG", quality=90)
      images[k] = stream.getvalue()
    else:
      images[k] = images[k % 4]
  objects = {
    f"object {k}": made_waymo.steady(range(198), (400.0 + 100 * k, 640.0))
    for k in range(10)
  }
  times = made_waymo.times(198)
  write(folder, made_waymo.MadeSegment(times, objects, images=images))

  def plain():
    for k in range(FRAMES):
      square(Image.open(io.BytesIO(images[k])), size)

  return made_waymo.settings(folder, window_stride=16), plain


DATASETS = {
  "scannet": scannet,
  "perception_test": perception_test,
  "movi (ArrayRecord)": lambda *args: movi(*args, "array_record"),
  "movi (TFRecord)": lambda *args: movi(*args, "tfrecord"),
  "waymo v1": lambda *args: waymo(*args, made_waymo.write_v1),
  "waymo v2": lambda *args: waymo(*args, made_waymo.write_v2),
}


def seconds(read: Callable[[int], object], count: int) -> float:
  """Median processor seconds of reading a clip."""
  spent = []
  for k in range(count):
    start = time.process_time()
    read(k)
    spent.append(time.process_time() - start)
  return float(np.median(spent))


def main() -> None:
  """Prints a line a data set."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--size", type=int, default=224)
  parser.add_argument("--clips", type=int, default=20)
  parser.add_argument("--only", choices=DATASETS, action="append")
  arguments = parser.parse_args()
  logging.disable()
  print("clips per second and core   reader    plain   ratio   opening [s]")
  for name in arguments.only or DATASETS:
    with tempfile.TemporaryDirectory() as folder:
      data, plain = DATASETS[name](Path(folder) / "d", arguments.size)
      data.update({"size": arguments.size, "num_frames": FRAMES})
      start = time.process_time()
      source = pipeline.open_source(data, "train", Path(folder) / "root")
      opening = time.process_time() - start
      reader = seconds(lambda k: source[k % len(source)], arguments.clips)  # noqa: B023
      loop = seconds(lambda _: plain(), arguments.clips)  # noqa: B023
      print(
        f"{name:26} {1 / reader:8.2f} {1 / loop:8.2f} {loop / reader:7.2f} "
        f"{opening:8.2f}"
      )
      if name.startswith("movi"):
        beside_tfds(name, Path(folder) / "d", reader, arguments.clips)


if __name__ == "__main__":
  main()
