"""How much a single token says of its own place: linear probes of latents.

A minute's look at frozen features before anything is trained on them. A ridge
regression reads the pixels, the depth, the cover by boxes and the motion of
tracked points at a token from that token alone. What a place has on average
counts for nothing: it is taken off both sides, place by place.

The probes are ours; the paper compares backbones by attention readouts alone.
"""

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from forecasting.backbones.encode import load_backbone
from forecasting.backbones.zoo import get_spec
from forecasting.frames.clip import Clip
from forecasting.frames.pipeline import data_root, open_source
from forecasting.latents.encoding import Encoder, encode_clips
from forecasting.shapes import Array

# Samples of a frame per side of a token.
CELLS = 4
# Added to the covariance, as a share of its mean variance.
PENALTY = 1e-5
CLIPS = 192  # to fit on, and to score on

Target = tuple[Float[Array, "n d"], Bool[Array, "n"]]


def targets(clip: Clip, grid: tuple[int, int, int]) -> dict[str, Target]:
  """Returns what is to be read at each token, and where it is known.

  Args:
    clip: with any of the labels.
    grid: slots, rows and columns of its latents.

  Returns:
    'pixels', `CELLS` x `CELLS` colors of every frame; 'depth', the logarithm of
    meters; 'boxes', the share of the token that boxes cover; 'motion', the way
    of points from frame to frame (x, y).
  """
  slots, rows, columns = grid
  size = (len(clip["video"]), CELLS * rows, CELLS * columns)
  pooled = functools.partial(
    reduce,
    pattern="(t k) (h a) (w b) c -> (t h w) c",
    reduction="mean",
    t=slots,
    h=rows,
    w=columns,
  )
  colors = _resized(clip["video"] / np.float32(255), size)
  found = {
    "pixels": rearrange(
      colors,
      "(t k) (h a) (w b) c -> (t h w) (k a b c)",
      t=slots,
      h=rows,
      w=columns,
    )
  }
  known = {}
  if "depth" in clip:
    meters = np.asarray(clip["depth"], np.float32)
    valid = meters > 0
    logs = np.log(np.where(valid, meters, 1))
    share = pooled(_resized(valid.astype(np.float32), size))
    known["depth"] = share[:, 0] > 0.5
    found["depth"] = pooled(_resized(logs, size)) / np.maximum(share, 0.5)
  if "boxes" in clip:
    found["boxes"] = pooled(_cover(clip, size)[..., None])
  if "tracks" in clip:
    found["motion"], known["motion"] = _motion(clip, grid)
  everywhere = np.ones(slots * rows * columns, bool)
  return {name: (y, known.get(name, everywhere)) for name, y in found.items()}


def _resized(
  frames: Float[Array, "T H W c"], size: tuple[int, int, int]
) -> Float[np.ndarray, "T R S c"]:
  shape = (*size, frames.shape[-1])
  return np.asarray(jax.image.resize(frames, shape, "linear"))


def _cover(
  clip: Clip, size: tuple[int, int, int]
) -> Float[np.ndarray, "T R S"]:
  """Returns 1 in boxes, 0 elsewhere."""
  ymin, xmin, ymax, xmax = np.moveaxis(clip["boxes"], -1, 0)[..., None]
  y, x = ((np.arange(count) + 0.5) / count for count in size[1:])
  inside = ((ymin <= y) & (y <= ymax))[..., :, None] & (
    (xmin <= x) & (x <= xmax)
  )[..., None, :]
  return (inside & clip["box_mask"][..., None, None]).any(1).astype(np.float32)


def _motion(clip: Clip, grid: tuple[int, int, int]) -> Target:
  """Returns the mean way of the points that are seen at a token."""
  slots, rows, columns = grid
  tracks, visible = clip["tracks"], clip["visible"] & clip["track_mask"]
  way, seen = np.diff(tracks, axis=0), visible[1:] & visible[:-1]
  frame = np.arange(len(way))[:, None]
  x, y = np.moveaxis(tracks[:-1], -1, 0)
  token = frame * slots // len(tracks)
  token = token * rows + np.clip((y * rows).astype(int), 0, rows - 1)
  token = token * columns + np.clip((x * columns).astype(int), 0, columns - 1)
  count = np.zeros(slots * rows * columns)
  total = np.zeros((len(count), 2))
  np.add.at(count, token[seen], 1)
  np.add.at(total, token[seen], way[seen])
  return total / np.maximum(count, 1)[:, None], count > 0


class Probe:
  """A ridge regression with a mean of its own at every place.

  Moments are summed, so that tokens need not be kept.
  """

  def __init__(self) -> None:
    """Starts with no clips."""
    self._sums: list[np.ndarray] | None = None
    self._error = self._spread = 0.0

  def add(
    self,
    tokens: Float[Array, "B n C"],
    target: Float[Array, "B n d"],
    known: Bool[Array, "B n"],
  ) -> None:
    """Adds clips to fit on; `known` marks targets that there are."""
    x, y = (np.where(known[..., None], a, 0.0) for a in (tokens, target))
    flat = functools.partial(rearrange, pattern="B n c -> (B n) c")
    sums = [
      known.sum(0, dtype=np.float64)[:, None],
      x.sum(0, dtype=np.float64),
      y.sum(0, dtype=np.float64),
      (flat(x).T @ flat(x)).astype(np.float64),
      (flat(x).T @ flat(y)).astype(np.float64),
    ]
    self._sums = (
      [a + b for a, b in zip(self._sums, sums)] if self._sums else sums
    )

  @functools.cached_property
  def _solution(self) -> list[np.ndarray]:
    """Where there were targets, means of both sides there, and weights."""
    count, x, y, xx, xy = self._sums
    mean_x, mean_y = x / np.maximum(count, 1), y / np.maximum(count, 1)
    xx, xy = xx - x.T @ mean_x, xy - x.T @ mean_y
    penalty = PENALTY * np.trace(xx) / len(xx)
    weights = np.linalg.solve(xx + penalty * np.eye(len(xx)), xy)
    return [count[:, 0] > 0, mean_x, mean_y, weights]

  def score(
    self,
    tokens: Float[Array, "B n C"],
    target: Float[Array, "B n d"],
    known: Bool[Array, "B n"],
  ) -> None:
    """Adds clips to score on; as `add`, which may not be called any more."""
    had, mean_x, mean_y, weights = self._solution
    known = known & had
    y = (target - mean_y)[known]
    guess = (tokens - mean_x)[known] @ weights
    self._error += np.square(y - guess).sum()
    self._spread += np.square(y).sum()

  @property
  def r2(self) -> float:
    """The share of the variance that is read of the clips scored, or NaN."""
    return 1.0 - self._error / self._spread if self._spread else math.nan


def measure(
  encoder: Encoder,
  fit: Sequence[Clip],
  test: Sequence[Clip],
  num_context: int,
  batch_size: int = 8,
) -> dict[str, float]:
  """Returns the R2 of every probe on clips that it was not fitted on.

  Args:
    encoder: frozen model.
    fit: clips to fit on; the first `CLIPS`.
    test: clips to score on; the first `CLIPS`.
    num_context: frames of the context.
    batch_size: clips encoded at a time.

  Returns:
    By target of the clips to fit on; NaN if the others lack it.
  """
  encode = jax.jit(
    lambda *args: encode_clips(encoder, num_context, encoder.params, *args)[1]
  )
  probes: dict[str, Probe] = {}
  for source, is_fitted in ((fit, False), (test, True)):
    count = min(CLIPS, len(source))
    for start in range(0, count, batch_size):
      ids = np.arange(start, min(start + batch_size, count), dtype=np.uint32)
      clips = [source[int(i)] for i in ids]
      video = np.stack([clip["video"] for clip in clips])
      latents = np.asarray(encode(video, ids), np.float64)
      tokens = rearrange(latents, "B t h w C -> B (t h w) C")
      found = [targets(clip, latents.shape[1:4]) for clip in clips]
      for name in found[0]:
        target, known = (
          np.stack(x) for x in zip(*(each[name] for each in found))
        )
        if not is_fitted:
          probes.setdefault(name, Probe()).add(tokens, target, known)
        elif name in probes:
          probes[name].score(tokens, target, known)
  return {name: probe.r2 for name, probe in probes.items()}


def report(config: ConfigDict, workdir: Path) -> str:
  """Returns a table: the backbone of a config beside random weights.

  Args:
    config: sections `backbone` and `data` are read.
    workdir: of the run, parent of `data` unless `data.root` is set.
  """
  data, choices = config.data, config.backbone.to_dict()
  root = data_root(data, workdir)
  fit, test = (open_source(data, split, root) for split in ("train", "eval"))
  columns = {}
  if not choices["random_init"]:
    columns["its weights"] = choices
  if get_spec(choices["name"]).family != "raw":
    random = {**choices, "random_init": True, "checkpoint": None}
    columns["random weights"] = random
  results = [
    measure(load_backbone(**column), fit, test, data.num_context)
    for column in columns.values()
  ]
  lines = [
    f"R2 of linear probes of single tokens of {choices['name']}, beyond the",
    f"mean of their place; fitted on {min(CLIPS, len(fit))} clips, scored on"
    f" {min(CLIPS, len(test))}:",
    "",
    " " * 8 + "".join(f"{name:>16}" for name in columns),
  ]
  for name in results[0]:
    cells = "".join(f"{result[name]:>16.3f}" for result in results)
    lines.append(f"{name:<8}{cells}")
  return "\n".join(lines)
