"""A small work folder with made-up rows, curves and panels."""

import json

import numpy as np
import pytest

METRICS = {
  "pixels": ("psnr", True, "dB", 18.0),
  "depth": ("absrel", False, "1", 0.2),
  "points": ("aj", True, "1", 0.5),
  "boxes": ("iou", True, "1", 0.55),
}
FORECASTERS = {
  "climatology": ("baseline", 10),
  "oracle_future": ("oracle", 1),
  "flow": ("trained", 10),
  "regression": ("trained", 1),
  "persistence_output": ("baseline", 1),
}
T, H, Q, N = 16, 64, 20, 5


def scored(value, width=0.1):
  return {
    "value": value,
    "low": value - width * abs(value),
    "high": value + width * abs(value),
  }


def make_scores(task, samples, near):
  metric_value = METRICS[task][3]
  fd = {"pixels": 32.0, "depth": 600.0, "points": 7e-4, "boxes": 1.9}[task]
  no_interval = {"low": None, "high": None}
  scores = {
    "mean": near(metric_value),
    "std": near(metric_value * 0.05) if samples > 1 else scored(0.0),
    "best": near(metric_value * 1.1),
    "perception": scored(metric_value * 1.3),
    "perception_all": scored(metric_value * 1.31),
    "fd": near(fd),
    "fd_1": near(fd * 1.1),
    "var_time": {"value": near(0.002)["value"]} | no_interval,
    "var_gauss": {"value": near(0.03)["value"]} | no_interval,
    "truth_var_time": {"value": 0.0032} | no_interval,
    "truth_var_gauss": {"value": 0.04} | no_interval,
    "energy_score": near(0.6),
    "crps": near(0.04),
  }
  if task == "points":
    scores |= {"occlusion_accuracy": near(0.7), "delta_avg": near(0.6)}
  if samples > 1:
    scores["spread_skill"] = near(0.8)
  return scores


def make_futures(samples, near, rng):
  futures = {
    "contexts": 64,
    "futures": 16,
    "rows": 64,
    "energy_score": near(0.5),
    "true_sampler_energy_score": scored(0.4),
    "oracle_readout_energy_score": scored(0.45),
    "relative_energy_score": near(1.3),
  }
  if samples > 1:
    futures["spread_skill"] = near(0.9)
    futures["spread_skill_per_lead"] = rng.uniform(0.6, 1, 12).tolist()
  return futures


def make_row(task, forecaster, rng):
  metric, higher, unit, _ = METRICS[task]
  kind, samples = FORECASTERS[forecaster]

  def near(value):
    return scored(float(value * rng.uniform(0.7, 1.3)))

  row = {
    "name": "made_up",
    "backbone": "4ds_tiny",
    "weights_digest": "0123456789abcdef0123456789abcdef",
    "layer": 3,
    "context_mode": "crop_pos",
    "dataset": "mujoco_scenes",
    "task": task,
    "forecaster": forecaster,
    "seed": 0,
    "metric": metric,
    "higher_is_better": higher,
    "unit": unit,
    "num_examples": 512,
    "num_excluded": 3 if task == "boxes" else 0,
    "num_rows": 509,
    "num_rows_dropped": 4,
    "num_samples": samples,
    "frames": "4..15",
    "scores": make_scores(task, samples, near),
    "rank_deficient": task in ("pixels", "depth"),
    "fd_rows": [509, 509 * samples],
    "skipped": {"no motion": 2},
    "eval_list_hash": "00ff00ff00ff00ff",
    "git_revision": "abc1234",
    "wall_seconds": 12.5,
    "device": "cpu x 1",
    "step": 1200 if kind == "trained" else None,
    "weights": "ema",
    "kind": kind,
    "calls_per_sample": 16 if forecaster == "flow" else 0,
    "futures": make_futures(samples, near, rng),
  }
  if samples > 1:
    dressed = ("energy_score", "spread_skill", "fd_1")
    row["dressed"] = {
      "scores": {name: near(0.9) for name in dressed},
      "spread_skill_per_lead": rng.uniform(0.8, 1.1, 12).tolist(),
      "widening_per_lead": np.linspace(1, 2, 12).tolist(),
    }
    row["futures"]["dressed"] = {
      "relative_energy_score": near(1.1),
      "spread_skill": near(0.95),
    }
    row["spread_skill_per_lead"] = rng.uniform(0.6, 1.1, 12).tolist()
    row["rank_histogram"] = rng.dirichlet(np.full(samples + 1, 9.0)).tolist()
  return row


def make_truth(task, video, rng):
  """Truth, its masks, and a mean that samples stray from."""
  time = np.linspace(0, 0.3, T)
  if task == "pixels":
    return {"truth": video}, video / 255.0
  if task == "depth":
    depth = 2 + 3 * video.mean(-1, keepdims=True) / 255
    depth[:, :, :4, :4] = 0
    return {"truth": depth.astype(np.float32)}, depth
  number, size = (Q, 2) if task == "points" else (N, 4)
  corner = rng.uniform(0.05, 0.45, (len(video), 1, number, 2))
  first = corner + time[None, :, None, None]
  truth = first if size == 2 else np.concatenate([first, first + 0.2], -1)
  seen = rng.uniform(size=(len(video), T, number)) > 0.15
  seen[:, 0] = True
  mask = np.ones((len(video), number), bool)
  mask[:, -1] = False
  name = "truth_visible" if task == "points" else "truth_present"
  return {"truth": truth.astype(np.float32), name: seen, "mask": mask}, truth


def make_panels(task, clips, rng):
  y, x, t = np.meshgrid(np.arange(H), np.arange(H), np.arange(T), indexing="ij")
  wave = 127 + 120 * np.sin((x + 2 * t) / 9) * np.cos((y - t) / 7)
  video = np.stack([wave, wave[::-1], np.roll(wave, 9, 1)], -1)
  video = np.stack([np.roll(video, 11 * p, 0) for p in range(clips)])
  video = np.moveaxis(video, 3, 1).astype(np.uint8)
  arrays, mean = make_truth(task, video, rng)
  arrays |= {
    "clip_id": np.array([f"scene/{i}" for i in range(clips)]),
    "video": video,
    "num_context": np.array(4),
  }
  for name, (_, samples) in FORECASTERS.items():
    shape = (clips, min(samples, 3), *mean.shape[1:])
    strayed = mean[:, None] + 0.05 * rng.normal(
      size=(*shape[:2], 1, 1, 1)
      if task in ("points", "boxes")
      else (*shape[:2], 1, 1, 1, 1)
    )
    arrays[f"{name}/samples"] = strayed.astype(np.float16)
    arrays[f"{name}/mean"] = mean.astype(np.float16)
    if task == "points":
      arrays[f"{name}/visible"] = rng.uniform(size=(*shape[:3], Q)) > 0.2
  return arrays


def build(workdir, tasks=tuple(METRICS), panels=1, change=lambda row: row):
  """Writes a work folder.

  Args:
    workdir: to write.
    tasks: their names.
    panels: clips kept for animations.
    change: edits each row on its way.
  """
  rng = np.random.default_rng(0)
  workdir.mkdir(parents=True, exist_ok=True)
  rows = [
    change(make_row(task, name, rng)) for task in tasks for name in FORECASTERS
  ]
  text = "".join(json.dumps(row) + "\n" for row in rows)
  (workdir / "results.jsonl").write_text(text)
  trainees = ["flow", "regression", *(f"readout_{task}" for task in tasks)]
  with (workdir / "metrics.jsonl").open("w") as file:
    for step in range(50, 1250, 50):
      for number, trainee in enumerate(trainees):
        loss = (1 + number) * (20 / step + 0.05 + 0.02 * rng.uniform())
        row = {"step": step, "trainee": trainee, "loss": loss}
        file.write(json.dumps(row) + "\n")
  config = {"data": {"name": "mujoco_scenes"}, "backbone": {}}
  (workdir / "config.json").write_text(json.dumps(config))
  if panels:
    (workdir / "panels").mkdir(exist_ok=True)
    for task in tasks:
      path = workdir / "panels" / f"{task}.npz"
      np.savez_compressed(path, **make_panels(task, panels, rng))
  return rows


@pytest.fixture
def make_workdir(tmp_path):
  """Returns a function that builds a work folder and returns (path, rows)."""

  def make(name="run", **kwargs):
    return tmp_path / name, build(tmp_path / name, **kwargs)

  return make
