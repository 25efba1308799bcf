"""Made rows of a study whose answers are known."""

import numpy as np

METRICS = {
  "pixels": ("psnr", True, "dB"),
  "depth": ("absrel", False, "1"),
  "points": ("aj", True, "1"),
  "boxes": ("iou", True, "1"),
}
CLIPS = 60
# Perception and best-of-S forecast of each model, as quality above a floor.
MODELS = {
  "4ds_tiny": 0.9,
  "videomae_tiny": 0.8,
  "vjepa_tiny": 0.7,
  "walt_tiny": 0.82,
  "videoprism_tiny": 0.6,
  "dinov2_tiny": 0.4,
  "siglip_tiny": 0.3,
}
# How far forecasts are from following perception exactly.
OFFSETS = {"vjepa_tiny": 0.08, "videoprism_tiny": -0.05, "siglip_tiny": 0.05}
RANDOM = {"4ds_tiny": 0.1}


def scored(value, width=0.02):
  return {"value": value, "low": value - width, "high": value + width}


def quality_to_metric(task, quality):
  """Better is higher but for depth."""
  if task == "depth":
    return 1.2 - quality
  return {"pixels": 20.0, "points": 0.3, "boxes": 0.2}[task] + quality


def make_row(task, model, quality, seed, rng, forecaster, digest):
  metric, higher, unit = METRICS[task]
  is_flow = forecaster == "flow"
  gain = 0.1 if is_flow else 0.0
  difficulty = np.random.default_rng(3).normal(0, 0.05, CLIPS)
  sign = 1.0 if higher else -1.0

  def clips(value):
    noise = rng.normal(0, 0.01, CLIPS)
    return quality_to_metric(task, value) + sign * difficulty + noise

  best = clips(0.8 * quality + OFFSETS.get(model, 0.0) + gain)
  perception = clips(quality)
  fd = 2.0 - quality - (0.5 if is_flow else 0.0)
  replicates = fd + 0.05 * np.random.default_rng(4).normal(size=30)
  return {
    "name": f"study_{model}_{digest[:6]}",
    "backbone": model,
    "weights_digest": digest,
    "task": task,
    "forecaster": forecaster,
    "kind": "trained",
    "seed": seed,
    "metric": metric,
    "higher_is_better": higher,
    "unit": unit,
    "num_examples": CLIPS,
    "num_samples": 10 if is_flow else 1,
    "eval_list_hash": "c11b5",
    "clips": {
      "mean": (best - sign * gain).tolist(),
      "best": best.tolist(),
      "perception": perception.tolist(),
    },
    "fd_1_replicates": (replicates + rng.normal(0, 1e-3, 30)).tolist(),
    "scores": {
      "mean": scored(float(np.mean(best - sign * gain))),
      "std": scored(0.1),
      "best": scored(float(best.mean())),
      "perception": scored(float(perception.mean())),
      "fd": scored(fd),
      "fd_1": scored(fd),
      "var_time": scored(0.5),
      "var_gauss": scored(0.8),
      "truth_var_time": scored(1.0),
      "truth_var_gauss": scored(1.0),
      "spread_skill": scored(0.7 if is_flow else float("nan")),
    },
  }


def make_rows(tasks=("pixels", "depth"), seeds=(0, 1), change=lambda row: row):
  rng = np.random.default_rng(0)
  sets = ((MODELS, "ab12" * 16), (RANDOM, "random-0"))
  return [
    change(make_row(task, model, quality, seed, rng, forecaster, digest))
    for models, digest in sets
    for model, quality in models.items()
    for task in tasks
    for seed in seeds
    for forecaster in ("flow", "regression")
  ]
