"""Proves that a backbone's context latents do not see the future.

python -m forecasting.latents.leakcheck --config=configs/quickstart.py

A backbone with attention over all frames mixes them, so slots cut from the
encoding of a whole clip know what comes next. The check replaces every later
pixel and compares the context latents: the difference has to be exactly 0.
Exits with 1 otherwise.
"""

import functools
import sys
from collections.abc import Sequence

import jax
import numpy as np
from absl import app, flags
from jaxtyping import UInt8
from ml_collections import ConfigDict, config_flags

from forecasting.backbones.encode import load_backbone
from forecasting.latents.encoding import Encoder, encode_clips
from forecasting.shapes import Array


class LeakCheckError(RuntimeError):
  """A check that could not have failed."""


def check(
  backbone: Encoder, video: UInt8[Array, "B T H W 3"], num_context: int
) -> float:
  """Returns how much the context latents depend on the future.

  Args:
    backbone: frozen model, in the context mode to check.
    video: clips.
    num_context: frames of the context.

  Returns:
    Largest absolute difference of the context latents after every pixel of the
    later frames was replaced; 0 for a sound context mode.

  Raises:
    LeakCheckError: the clip latents did not change either, so the check proves
      nothing.
  """
  other = np.array(video)
  # Inverted bits: no pixel keeps its value.
  other[:, num_context:] ^= 0xFF
  encode = jax.jit(functools.partial(encode_clips, backbone, num_context))
  context, clip = encode(backbone.params, video)
  other_context, other_clip = encode(backbone.params, other)
  if not np.any(np.asarray(clip) != np.asarray(other_clip)):
    raise LeakCheckError(
      f"{backbone.spec.name}: replacing the future changed nothing in the "
      "latents of the whole clip, so its weights ignore the frames"
    )
  return float(np.abs(np.asarray(context) - np.asarray(other_context)).max())


def report(config: ConfigDict) -> bool:
  """Checks the backbone of a config on random frames and prints the verdict.

  Args:
    config: sections `backbone` and `data` are read.

  Returns:
    Whether the context is free of the future.
  """
  backbone = load_backbone(**config.backbone)
  spec, data = backbone.spec, config.data
  video = np.random.default_rng(0).integers(
    0, 256, (2, data.num_frames, data.size, data.size, 3), dtype=np.uint8
  )
  difference = check(backbone, video, data.num_context)
  verdict = "no leak" if difference == 0 else "LEAK: context sees the future"
  print(
    f"{spec.name} {backbone.context_mode}: largest difference of context "
    f"latents {difference:g}, {verdict}"
  )
  return difference == 0


def main(argv: Sequence[str]) -> None:
  """Checks the backbone of a config."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  sys.exit(not report(_CONFIG.value))


if __name__ == "__main__":
  _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
  flags.mark_flag_as_required("config")
  app.run(main)
