"""Times the metrics of an evaluation against straightforward NumPy loops.

python tests/benchmarks/evaluation.py [--clips 32] [--samples 10] [--size 64]

The loops are what one writes first: clip by clip and sample by sample, pairs
of ensemble members written out. Both sides must agree to 1e-9, then they take
turns on the same random forecasts. Prints milliseconds and ratios.
"""

import argparse
import statistics

import numpy as np
import turns

from forecasting.metrics import boxes, depth, proper, psnr, summary, tracks

TOLERANCE = 1e-9
TC = 4  # observed frames


def loop_tracks(pred, pred_visible, true, true_visible, mask):
  """Average Jaccard, occlusion accuracy, delta: [3 B S]."""
  out = np.zeros((3, *pred.shape[:2]))
  for b in range(len(pred)):
    for s in range(pred.shape[1]):
      jaccard, within = [], []
      kept = mask[b]
      seen = true_visible[b, TC:][:, kept]
      said = pred_visible[b, s, TC:][:, kept]
      offset = pred[b, s, TC:][:, kept] - true[b, TC:][:, kept]
      distance = np.linalg.norm(256.0 * offset, axis=-1)
      for threshold in (1, 2, 4, 8, 16):
        close = distance < threshold
        hit = np.sum(seen & said & close)
        false = np.sum(said & ~seen) + np.sum(said & seen & ~close)
        jaccard.append(hit / (np.sum(seen) + false))
        within.append(np.sum(seen & close) / np.sum(seen))
      agree = np.mean(seen == said)
      out[:, b, s] = np.mean(jaccard), agree, np.mean(within)
  return out


def our_tracks(*arrays):
  """The same by the package."""
  scores = tracks.forecast_scores(*arrays, TC)
  return np.stack(
    [scores.average_jaccard, scores.occlusion_accuracy, scores.delta_avg]
  )


def loop_boxes(pred, true, present, mask):
  """Mean IoU, box by box: [B S]."""
  out = np.zeros(pred.shape[:2])
  for b in range(len(pred)):
    for s in range(pred.shape[1]):
      values = []
      for t in range(TC, pred.shape[2]):
        for q in range(pred.shape[3]):
          if not (present[b, t, q] and mask[b, q]):
            continue
          one, other = pred[b, s, t, q], true[b, t, q]
          height = min(one[2], other[2]) - max(one[0], other[0])
          width = min(one[3], other[3]) - max(one[1], other[1])
          overlap = max(height, 0.0) * max(width, 0.0)
          areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (one, other)]
          values.append(overlap / (sum(areas) - overlap))
      out[b, s] = np.mean(values)
  return out


def loop_depth(pred, true):
  """Absolute relative error: [B S]."""
  out = np.zeros(pred.shape[:2])
  for b in range(len(pred)):
    valid = (true[b] > 1e-3) & (true[b] <= 10.0)
    for s in range(pred.shape[1]):
      target = true[b][valid].astype(np.float64)
      error = np.abs(pred[b, s][valid].astype(np.float64) - target)
      out[b, s] = np.mean(error / (target + 1e-6))
  return out


def loop_psnr(pred, true):
  """PSNR, frame by frame: [B S]."""
  out = np.zeros(pred.shape[:2])
  for b in range(len(pred)):
    for s in range(pred.shape[1]):
      values = []
      for t in range(pred.shape[2]):
        frame = np.clip(pred[b, s, t].astype(np.float64), 0, 1)
        error = np.mean((frame - true[b, t].astype(np.float64)) ** 2)
        values.append(-10 * np.log10(max(error, 1e-10)))
      out[b, s] = np.mean(values)
  return out


def loop_crps(pred, true):
  """Fair CRPS, all pairs of members: [R V]."""
  members = pred.shape[1]
  out = np.zeros(true.shape)
  for r in range(len(pred)):
    for v in range(true.shape[1]):
      x = pred[r, :, v]
      pairs = np.abs(x[:, None] - x[None]).sum()
      out[r, v] = np.abs(x - true[r, v]).mean()
      out[r, v] -= pairs / (2 * members * (members - 1))
  return out


def loop_energy(pred, true):
  """Fair energy score, all pairs of members: [R]."""
  members = pred.shape[1]
  out = np.zeros(len(pred))
  for r in range(len(pred)):
    for i in range(members):
      out[r] += np.linalg.norm(pred[r, i] - true[r]) / members
      for j in range(members):
        norm = np.linalg.norm(pred[r, i] - pred[r, j])
        out[r] -= norm / (2 * members * (members - 1))
  return out


def loop_spread_skill(pred, true, frames):
  """Spread over error, frame by frame: [T]."""
  members, length = pred.shape[1], true.shape[1] // frames
  out = np.zeros(frames)
  for t in range(frames):
    spread, error = 0.0, 0.0
    for r in range(len(pred)):
      for v in range(t * length, (t + 1) * length):
        x = pred[r, :, v]
        spread += np.var(x, ddof=1) * (members + 1) / members
        error += (np.mean(x) - true[r, v]) ** 2
    out[t] = np.sqrt(spread / error)
  return out


def loop_ranks(pred, true, frames):
  """Histogram of the truth's rank, frame by frame: [T S+1]."""
  members, length = pred.shape[1], true.shape[1] // frames
  out = np.zeros((frames, members + 1))
  for t in range(frames):
    for r in range(len(pred)):
      for v in range(t * length, (t + 1) * length):
        out[t, np.sum(pred[r, :, v] < true[r, v])] += 1
  return out / out.sum(axis=1, keepdims=True)


def cases(clips: int, samples: int, size: int, points: int, number: int):
  """Returns name -> (ours, loop, arguments) on random forecasts."""
  rng = np.random.default_rng(0)
  frames, future = 16, 16 - TC

  def near(true, scale):
    noise = rng.normal(size=(clips, samples, *true.shape[1:]))
    return true[:, None] + scale * noise

  xy = rng.uniform(size=(clips, frames, points, 2))
  seen = rng.uniform(size=(clips, frames, points)) < 0.8
  said = rng.uniform(size=(clips, samples, frames, points)) < 0.8
  real = rng.uniform(size=(clips, points)) < 0.9
  corner = rng.uniform(0.0, 0.5, size=(clips, frames, number, 2))
  box = np.concatenate([corner, corner + 0.3], axis=-1)
  # Small enough to keep every forecast box upright.
  pred_box = near(box, 0.01)
  present = rng.uniform(size=box.shape[:3]) < 0.8
  objects = rng.uniform(size=(clips, number)) < 0.9
  objects[:, 0], present[:, :, 0] = True, True
  meters = rng.uniform(-1, 12, size=(clips, future, size, size, 1))
  video = rng.uniform(size=(clips, future, size, size, 3)).astype(np.float32)
  meters = meters.astype(np.float32)
  rows = rng.normal(size=(clips * 8, future * 2))
  members = rng.normal(size=(clips * 8, samples, future * 2))
  points_of = (near(xy, 0.02), said, xy, seen, real)
  return {
    "Average Jaccard": (our_tracks, loop_tracks, points_of),
    "mean IoU": (boxes.mean_iou, loop_boxes, (pred_box, box, present, objects)),
    "AbsRel": (
      depth.abs_relative_error,
      loop_depth,
      (near(meters, 0.3).astype(np.float32), meters),
    ),
    "PSNR": (psnr.psnr, loop_psnr, (near(video, 0.1).astype("f4"), video)),
    "CRPS": (proper.crps, loop_crps, (members, rows)),
    "energy score": (proper.energy_score, loop_energy, (members, rows)),
    "spread-skill": (
      lambda *data: summary.ratio_per_lead(*proper.spread_skill_terms(*data)),
      loop_spread_skill,
      (members, rows, future),
    ),
    "rank histogram": (
      proper.rank_histogram,
      loop_ranks,
      (members, rows, future),
    ),
  }


def main(arguments: list[str] | None = None) -> None:
  """Compares every metric."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--clips", type=int, default=32)
  parser.add_argument("--samples", type=int, default=10)
  parser.add_argument("--size", type=int, default=64, help="rows, columns")
  parser.add_argument("--points", type=int, default=64)
  parser.add_argument("--boxes", type=int, default=25)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--clock", choices=turns.CLOCKS, default="wall")
  options = parser.parse_args(arguments)
  clock = options.clock
  totals = {"ours": 0.0, "loop": 0.0}
  for name, (ours, loop, data) in cases(
    options.clips, options.samples, options.size, options.points, options.boxes
  ).items():
    np.testing.assert_allclose(
      ours(*data), loop(*data), rtol=TOLERANCE, atol=TOLERANCE, err_msg=name
    )
    runs = {
      "ours": turns.timed(lambda ours=ours, data=data: ours(*data), clock),
      "loop": turns.timed(lambda loop=loop, data=data: loop(*data), clock),
    }
    seconds = turns.take_turns(runs, options.repeats)
    for side, values in seconds.items():
      totals[side] += statistics.median(values)
    print(
      f"{name}: {1e3 * statistics.median(seconds['ours']):.2f} ms, loop"
      f" {1e3 * statistics.median(seconds['loop']):.2f} ms, ratio"
      f" {turns.ratio(seconds['loop'], seconds['ours'])}",
      flush=True,
    )
  print(f"all: ratio {totals['loop'] / totals['ours']:.2f}")


if __name__ == "__main__":
  main()
