"""Small videos of every kind, for the tests of the video reader."""

from fractions import Fraction

import av
import numpy as np
from ml_collections import ConfigDict

"""Small videos of every kind, for the tests of the video reader."""


def _gray(index):
  """Brightness of a source frame: tells which frame one looks at."""
  return 20 + 5 * index


def write_video(
  path,
  pictures,
  rate=25,
  codec="mpeg4",
  pix_fmt="yuv420p",
  pts=None,
  sar=None,
  options=None,
):
  """Encodes RGB pictures; `pts` in milliseconds for variable rates."""
  with av.open(str(path), "w", options=options or {}) as container:
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = pictures[0].shape[:2]
    stream.pix_fmt = pix_fmt
    stream.bit_rate = 2_000_000
    if sar is not None:
      stream.codec_context.sample_aspect_ratio = sar
    if pts is not None:
      stream.codec_context.time_base = Fraction(1, 1000)
    for i, picture in enumerate(pictures):
      frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
      frame.pts = i if pts is None else pts[i]
      frame.time_base = Fraction(1, rate) if pts is None else Fraction(1, 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def flat(count, height=48, width=64):
  """Frames of one gray each."""
  return [
    np.full((height, width, 3), _gray(i % 40), np.uint8) for i in range(count)
  ]


def noise(count, height=48, width=64):
  """Frames that do not compress, so that every byte of a file counts."""
  generator = np.random.default_rng(0)
  return list(generator.integers(0, 256, (count, height, width, 3), np.uint8))


def write_audio(path):
  with av.open(str(path), "w") as container:
    stream = container.add_stream("aac", rate=16000, layout="mono")
    for i in range(20):
      frame = av.AudioFrame.from_ndarray(
        np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
      )
      frame.sample_rate, frame.pts = 16000, i * 1024
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def config(path, **changes):
  return ConfigDict(
    {
      "path": str(path),
      "fps": 25.0,
      "size": 16,
      "num_frames": 4,
      "window_stride": 2,
      "eval_fraction": 0.25,
      "train_clips": 1000,
      "eval_clips": 1000,
      "workers": 2,
    }
    | changes
  )


def shown(clip):
  """Which source frames a clip of `flat` shows."""
  middle = clip["video"][:, 4:12, 4:12].astype(float).mean((1, 2, 3))
  return np.rint((middle - 20) / 5).astype(int).tolist()
