"""Linear probes of a backbone's tokens, pretrained against random weights.

python tests/benchmarks/probe.py --data=runs/quickstart/data

For each task one linear regression from single tokens: the pixels and the
depth of the token's own place, whether a body's box covers it, and how far a
tracked point in it moves within the slot. Half of the clips fit, the other
half scores; both kinds of weights see the same clips.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from einops import rearrange, reduce

from forecasting import config
from forecasting.backbones.encode import load_backbone
from forecasting.frames.pipeline import open_source

RIDGE = 1e-4  # per row


def r_squared(tokens, targets, row_clip, num_clips):
  """Held-out share of variance that a ridge regression explains."""
  fit = row_clip < num_clips // 2
  x = np.concatenate([tokens, np.ones((len(tokens), 1))], axis=1)
  gram = x[fit].T @ x[fit] + RIDGE * fit.sum() * np.eye(x.shape[1])
  weights = np.linalg.solve(gram, x[fit].T @ targets[fit])
  truth = targets[~fit]
  error = np.square(x[~fit] @ weights - truth).mean()
  return 1 - error / np.square(truth - truth.mean(axis=0)).mean()


def patches(values, patch):
  """Cuts [B T H W c] into one row of numbers per token."""
  t, h, w = patch
  return rearrange(
    np.asarray(values, np.float64),
    "B (t a) (h b) (w c) d -> (B t h w) (a b c d)",
    a=t,
    b=h,
    c=w,
  )


def covered(clips, grid, tubelet):
  """Whether the center of each token lies in a box, in its first frame."""
  rows, columns = ((np.arange(n) + 0.5) / n for n in grid[1:])
  boxes = np.stack([clip["boxes"] for clip in clips])[:, ::tubelet]
  present = np.stack([clip["box_mask"] for clip in clips])[:, ::tubelet]
  low, high = boxes[..., None, None, :2], boxes[..., None, None, 2:]
  y, x = rows[:, None], columns[None, :]
  in_rows = (low[..., 0] <= y) & (y <= high[..., 0])
  inside = in_rows & (low[..., 1] <= x) & (x <= high[..., 1])
  hit = (inside & present[..., None, None]).any(axis=2)
  return rearrange(hit.astype(np.float64), "B t h w -> (B t h w) 1")


def motion(clips, grid, tubelet):
  """Tokens that hold a visible point, and how far it moves in the slot."""
  places, moves = [], []
  for b, clip in enumerate(clips):
    tracks, seen = clip["tracks"], clip["visible"] & clip["track_mask"]
    for slot in range(grid[0]):
      first, last = slot * tubelet, slot * tubelet + tubelet - 1
      for q in np.flatnonzero(seen[first] & seen[last]):
        column, row = (tracks[first, q] * grid[:0:-1]).astype(int)
        places.append((b, slot, row, column))
        moves.append(tracks[last, q] - tracks[first, q])
  return np.array(places).T, np.array(moves, np.float64)


def probe(backbone, clips):
  """Held-out R^2 by task."""
  spec = backbone.spec
  patch = (spec.tubelet, spec.patch, spec.patch)
  video = np.stack([clip["video"] for clip in clips]) / np.float32(255)
  depth = np.stack([clip["depth"] for clip in clips]).astype(np.float64)
  encode = jax.jit(backbone.encode)
  latents = np.concatenate(
    [encode(backbone.params, video[i : i + 4]) for i in range(0, len(clips), 4)]
  )
  rows = rearrange(latents, "B t h w C -> (B t h w) C").astype(np.float64)
  number = len(clips)
  clip_of = np.repeat(np.arange(number), len(rows) // number)
  mean_depth = reduce(patches(depth, patch), "n p -> n 1", "mean")
  at, moves = motion(clips, spec.grid, spec.tubelet)
  return {
    "pixels": r_squared(rows, patches(video, patch), clip_of, number),
    "depth": r_squared(rows, mean_depth, clip_of, number),
    "points": r_squared(
      latents[tuple(at)].astype(np.float64), moves, at[0], number
    ),
    "boxes": r_squared(
      rows, covered(clips, spec.grid, spec.tubelet), clip_of, number
    ),
  }


def main():
  """Prints one line per kind of weights."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--backbone", default="4ds_tiny")
  flags.add_argument("--data", type=Path, required=True)
  flags.add_argument("--clips", type=int, default=128)
  args = flags.parse_args()
  settings = config.experiment(args.backbone, config.TASK_NAMES)().data
  settings.eval_clips = max(args.clips, settings.eval_clips)
  source = open_source(settings, "eval", args.data)
  clips = [source[i] for i in range(args.clips)]
  for name, random_init in (("pretrained", False), ("random", True)):
    backbone = load_backbone(args.backbone, random_init=random_init)
    scores = probe(backbone, clips)
    print(name, *(f"{task} R2 {value:.3f}" for task, value in scores.items()))


if __name__ == "__main__":
  main()
